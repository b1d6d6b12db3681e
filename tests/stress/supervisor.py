"""The supervisor killed again and again under load: nothing lost, nobody held up, one supervisor at the end.

    python -m tests.stress.supervisor --minutes 10

One publisher at a steady rate, two consumers that ack, and one private subscriber, each a process that may start a
supervisor; this one kills it each second and starts none. A stall is a publish that took long, or a message that was
long on its way. What of it the process spent waiting for a processor, as the kernel counts it (schedstat), is the
machine's; the rest must not be over the limit. Nobody spins: what a process loses by sched_yield on a busy machine
is not counted so. Beside it stands the same without a kill, for comparison.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import struct
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mqshm
from mqshm._native import lib

LIMIT = 0.050
_CALM_SECONDS = 20.0
_PATIENCE = 30.0
_NOTED = 0.005
"""Seconds from which on a stall is written down."""
_TOLD = 5
_PAYLOAD = struct.Struct("<Qd")
_context = multiprocessing.get_context("spawn")


class Delay:
    """Seconds that this thread was ready to run and did not."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def __call__(self) -> float:
        return int(os.pread(self._fd, 100, 0).split()[1]) / 1e9


def publish(name: str, place: str, rate: float) -> None:
    """Numbers from 0, each with its time, until there is a file `stop`; then how many, and which took long."""
    delay, sent, late = Delay(), 0, {}
    with mqshm.connect(name) as broker:
        start = time.monotonic()
        while not os.path.exists(f"{place}/stop"):
            for _ in range(64):
                before, waited = time.monotonic(), delay()
                broker.publish("load", _PAYLOAD.pack(sent, before))
                took, machine = time.monotonic() - before, delay() - waited
                if took > _NOTED:
                    late[sent] = (before, took, took - machine)
                sent += 1
                ahead = start + sent / rate - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
    Path(f"{place}/published").write_text(json.dumps({"sent": sent, "late": late}))


def consume(name: str, place: str, who: str, group: str | None) -> None:
    """All numbers, in the order of their arrival, and those that were long on their way."""
    delay, numbers, late = Delay(), array("Q"), {}
    with mqshm.connect(name) as broker, broker.subscribe("load", group=group, buffer_size=100_000) as subscription:
        Path(f"{place}/{who}.ready").touch()
        while not os.path.exists(f"{place}/drained"):
            waited = delay()
            for _ in range(1000):
                message = subscription.receive(timeout=0.2)
                if message is None:
                    break
                number, sent_at = _PAYLOAD.unpack(message.data)
                took = time.monotonic() - sent_at
                if took > _NOTED:
                    late[number] = (sent_at, took, took - (delay() - waited))
                waited = delay()
                message.ack()
                numbers.append(number)
    Path(f"{place}/{who}.numbers").write_bytes(numbers.tobytes())
    Path(f"{place}/{who}").write_text(json.dumps({"late": late}))


@dataclass
class Run:
    name: str
    place: Path
    rate: float
    kills: list[float] = field(default_factory=list)
    take_overs: list[float] = field(default_factory=list)

    def go(self, seconds: float, every: float | None) -> list[str]:
        """What went wrong."""
        who = {"consumer 1": "group", "consumer 2": "group", "private": None}
        watcher = mqshm.connect(self.name, config=mqshm.Config(spin=0), supervisor=False)
        watcher.create_group("group", "load", buffer_size=100_000)
        children = [
            _context.Process(target=consume, args=(self.name, str(self.place), each, group))
            for each, group in who.items()
        ]
        publisher = _context.Process(target=publish, args=(self.name, str(self.place), self.rate))
        try:
            for child in children:
                child.start()
            until(lambda: all((self.place / f"{each}.ready").exists() for each in who), "the consumers")
            publisher.start()
            until(lambda: supervisor(watcher), "the first supervisor")
            self._kill(watcher, seconds, every)
            (self.place / "stop").touch()
            publisher.join(_PATIENCE)
            stats = watcher.stats
            until(lambda: all(_idle(each) for each in (stats().groups["group"], *stats().private)), "the last message")
            (self.place / "drained").touch()
            wrong = self._one_supervisor(watcher)
            for child in children:
                child.join(_PATIENCE)
            report = watcher.fsck()
            watcher.delete_group("group")
        finally:
            for child in (publisher, *children):
                if child.is_alive():
                    child.kill()
            watcher.close()
        until(lambda: self.name not in mqshm.list_brokers(), "the end of the broker with its last user")
        wrong += [f"fsck: {report}"] if not report.clean else []
        return wrong + self._account(who)

    def _kill(self, watcher: mqshm.Broker, seconds: float, every: float | None) -> None:
        ends = time.monotonic() + seconds
        while every is not None and (now := time.monotonic()) < ends:
            pid = supervisor(watcher)
            if pid:
                os.kill(pid, signal.SIGKILL)
                self.kills.append(now)
                new = until(lambda killed=pid: supervisor(watcher) not in (0, killed), "the next supervisor")
                assert new
                self.take_overs.append(time.monotonic() - now)
            time.sleep(max(0.0, now + every - time.monotonic()))
        time.sleep(max(0.0, ends - time.monotonic()))

    def _one_supervisor(self, watcher: mqshm.Broker) -> list[str]:
        """Those that are only starting, and will not be elected, are given time to find that out."""
        elected = until(lambda: supervisor(watcher), "a supervisor at the end")
        until(lambda: processes(self.name) == [elected], f"one supervisor, process {elected}, and no other")
        return []

    def _account(self, who: dict[str, str | None]) -> list[str]:
        published = json.loads((self.place / "published").read_text())
        sent, slow = published["sent"], {int(number): each for number, each in published["late"].items()}
        seen = {each: array("Q", (self.place / f"{each}.numbers").read_bytes()) for each in who}
        wrong = []
        for name, numbers in seen.items():
            if any(a >= b for a, b in pairwise(numbers)):
                wrong.append(f"{name}: not in order")
        shared = sorted([*seen["consumer 1"], *seen["consumer 2"]])
        if shared != list(range(sent)):
            lost = len(set(range(sent)) - set(shared))
            wrong.append(f"group: {len(shared)} received of {sent} sent, {lost} lost")
        if list(seen["private"]) != list(range(sent)):
            wrong.append(f"private: {len(seen['private'])} received of {sent} sent")
        print(f"  {sent:,} messages, each received once by the group and once by the private subscriber")
        stalls = [("publish", each) for each in slow.values()]
        for name in who:
            for number, (at, took, own) in json.loads((self.place / name).read_text())["late"].items():
                behind = slow.get(int(number), (0, 0.0, 0.0))[1]  # its publisher was still at it
                stalls.append((f"delivery to {name}", (at, took - behind, own - behind)))
        return wrong + self._stalls(stalls)

    def _stalls(self, stalls: list[tuple[str, tuple[float, float, float]]]) -> list[str]:
        by_wall = max((took for _, (_, took, _) in stalls), default=0.0)
        by_own = max((own for _, (_, _, own) in stalls), default=0.0)
        print(
            f"  stalls over {_NOTED * 1e3:.0f} ms: {len(stalls)}, the longest {by_wall * 1e3:.1f} ms by the clock, "
            f"{by_own * 1e3:.1f} ms without waiting for a processor"
        )
        over = sorted((each for each in stalls if each[1][2] > LIMIT), key=lambda each: -each[1][2])
        wrong = (
            [f"{len(over)} of them over {LIMIT * 1e3:.0f} ms; is the machine busy with something else?"] if over else []
        )
        for what, (at, took, own) in over[:_TOLD]:
            after = min((at - kill for kill in self.kills if kill <= at + took), default=float("nan"))
            wrong.append(f"{what} took {took * 1e3:.0f} ms, {own * 1e3:.0f} ms its own, {after:.3f} s after a kill")
        return wrong


def _idle(stats: mqshm.SubscriptionStats) -> bool:
    return stats.waiting == stats.in_flight == 0


def supervisor(broker: mqshm.Broker) -> int:
    return int(lib.mqshm_supervised(broker._attachment.handle))


def processes(name: str) -> list[int]:
    """Supervisors of this broker, elected or not."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if name.encode() in words and any(word.endswith(b"supervisor/__main__.py") for word in words):
            found.append(int(path.parent.name))
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    ends = time.monotonic() + _PATIENCE
    while not (value := condition()):
        if time.monotonic() > ends:
            raise TimeoutError(f"{what} did not come within {_PATIENCE:.0f} s")
        time.sleep(0.002)
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills (1)")
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second (1000)")
    chosen = parser.parse_args()
    wrong = []
    for what, seconds, every in (("calm", _CALM_SECONDS, None), ("killed", chosen.minutes * 60, chosen.every)):
        with TemporaryDirectory() as place:
            run = Run(f"stress-{os.getpid()}-{what}", Path(place), chosen.rate)
            print(f"{what}: {seconds:.0f} s", flush=True)
            found = run.go(seconds, every)
        if run.take_overs:
            times = sorted(run.take_overs)
            middle = times[len(times) // 2]
            print(f"  {len(times)} kills; taken over after {middle:.3f} s (median), {times[-1]:.3f} s at most")
            found += [f"a take-over took {each:.2f} s" for each in times if each > 1.0]
        wrong += found if every is not None else []
        print("".join(f"  {each}\n" for each in found), end="", flush=True)
    print("FAILED" if wrong else "fine: nothing lost, nobody held up, one supervisor at the end")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
