"""Where does each nanosecond of a publish and a receive go? Partial operations, timed, and perf's samples where it is.

One process does both, so that no cache line travels: what is left is instructions and the crossing from Python.
`python -m bench.profile publish 2000000` does nothing but that operation, for a profiler of your own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

from .harness import Cell, RunFailed, Sample, in_child, now
from .peers.base import Peer
from .peers.mqshm import destroy, new_name
from .report import Mark
from .shapes import payload

UNIT = "ns"
PEERS = ["mqshm", "mqshm-cffi"]
TOPIC = "profile"
ROOM = 4096
LAP = 1000
DATA = payload(7, 64)
LARGER = payload(7, 1024)


class Bench:
    """A broker with one group, and the operations: each does LAP of its kind and returns how long they took."""

    def __init__(self, broker: Any, leased: bool) -> None:
        import mqshm

        self.broker = broker
        policy = mqshm.AckPolicy.REQUIRED if leased else mqshm.AckPolicy.NONE
        self.sub = broker.subscribe(TOPIC, group="g", ack=policy, buffer_size=ROOM)
        self.lists = [[DATA] * 100 for _ in range(LAP // 100)]

    def loop(self) -> int:
        start = now()
        for _ in repeat(None, LAP):
            pass
        return now() - start

    def _publish(self, topic: str, data: bytes, **options: Any) -> int:
        publish = self.broker.publish
        start = now()
        if options:
            for _ in repeat(None, LAP):
                publish(topic, data, **options)
        else:
            for _ in repeat(None, LAP):
                publish(topic, data)
        return now() - start

    def _drain(self) -> None:
        while messages := self.sub.receive_batch(100, timeout=0):
            self.sub.ack_batch(messages)

    def publish_to_nobody(self) -> int:
        return self._publish("nobody", DATA)

    def publish(self) -> int:
        spent = self._publish(TOPIC, DATA)
        self._drain()
        return spent

    def publish_1_kib(self) -> int:
        spent = self._publish(TOPIC, LARGER)
        self._drain()
        return spent

    def publish_with_priority(self) -> int:
        spent = self._publish(TOPIC, DATA, priority=30)
        self._drain()
        return spent

    def publish_batch(self) -> int:
        publish_batch = self.broker.publish_batch
        start = now()
        for items in self.lists:
            publish_batch(TOPIC, items)
        spent = now() - start
        self._drain()
        return spent

    def receive_nothing(self) -> int:
        receive = self.sub.receive_nowait
        start = now()
        for _ in repeat(None, LAP):
            receive()
        return now() - start

    def receive(self) -> int:
        self._publish(TOPIC, DATA)
        receive = self.sub.receive_nowait
        start = now()
        for _ in repeat(None, LAP):
            receive()
        return now() - start

    def receive_and_data(self) -> int:
        self._publish(TOPIC, DATA)
        receive = self.sub.receive_nowait
        start = now()
        for _ in repeat(None, LAP):
            receive().data  # noqa: B018 - the access is what is timed
        return now() - start

    def receive_batch(self) -> int:
        self._publish(TOPIC, DATA)
        receive_batch = self.sub.receive_batch
        start = now()
        for _ in self.lists:
            receive_batch(100)
        return now() - start

    def receive_and_ack(self) -> int:
        self._publish(TOPIC, DATA)
        receive = self.sub.receive_nowait
        start = now()
        for _ in repeat(None, LAP):
            receive().ack()
        return now() - start


OPERATIONS: dict[str, Callable[[Bench], int]] = {
    "loop": Bench.loop,
    "publish to nobody": Bench.publish_to_nobody,
    "publish": Bench.publish,
    "publish 1 KiB": Bench.publish_1_kib,
    "publish with priority": Bench.publish_with_priority,
    "publish, in batches": Bench.publish_batch,
    "receive nothing": Bench.receive_nothing,
    "receive": Bench.receive,
    "receive and .data": Bench.receive_and_data,
    "receive, in batches": Bench.receive_batch,
    "receive leased, ack": Bench.receive_and_ack,
}


def operate(name: str, count: int) -> Sample:
    """`count` of one operation in a broker of its own, in this process."""
    import mqshm

    broker_name = new_name()
    try:
        with mqshm.connect(broker_name) as broker:
            bench = Bench(broker, leased=name.endswith("ack"))
            operation = OPERATIONS[name]
            operation(bench)  # warms up
            laps = max(1, count // LAP)
            spent = sum(operation(bench) for _ in range(laps))
    finally:
        destroy(broker_name)
    return Sample(spent / (laps * LAP), spent / 1e9)


def in_process(front: str, name: str, count: int) -> Sample:
    def work() -> Sample:
        os.environ["MQSHM_FRONT"] = front
        return operate(name, count)

    sample: Sample = in_child(work)
    return sample


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    return [
        Cell(peer.name, "1 process", name, partial(in_process, "0" if peer.name == "mqshm-cffi" else "1", name), 20_000)
        for peer in peers
        for name in OPERATIONS
    ]


def epilogue(say: Callable[[str], None]) -> None:
    """perf's view of the two operations. Clock samples: counters of cycles are often not there in a virtual machine."""
    if shutil.which("perf") is None:
        say("perf is not installed: no samples")
        return
    for name in ("publish", "receive"):
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/perf.data"
            record = ["perf", "record", "-q", "-F", "4999", "-e", "cpu-clock", "-o", file, "--"]
            record += [sys.executable, "-m", "bench.profile", name, "2000000"]
            show = ["perf", "report", "-i", file, "--stdio", "-q", "--sort", "symbol,dso", "--percent-limit", "1"]
            try:
                subprocess.run(record, check=True, capture_output=True, timeout=60)
                samples = subprocess.run(show, check=True, capture_output=True, text=True, timeout=60).stdout
            except (subprocess.SubprocessError, OSError) as error:
                say(f"perf does not sample here: {error}")
                return
        say(f"\nperf, {name} (with what fills or drains the queue):")
        say("\n".join(line.rstrip() for line in samples.splitlines() if line.strip())[:4000])


MARKS: list[Mark] = []


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in OPERATIONS:
        raise SystemExit(f"usage: python -m bench.profile NAME COUNT; NAME is one of: {', '.join(OPERATIONS)}")
    try:
        print(operate(sys.argv[1], int(sys.argv[2])))
    except RunFailed as failure:
        raise SystemExit(str(failure)) from None
