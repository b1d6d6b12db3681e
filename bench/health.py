"""What does a look at a broker's health take, with ten thousand topics and a million messages, and what of the traffic?

`check` is the time of one health_check(), not the first. `traffic` is the rate of a stream between two processes while
a third one looks once a second, as a share of its rate without. One look a second is lost in the noise, so it looks
twenty times in every other second, each of which is compared with its neighbours, and the difference is divided by
twenty.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .harness import Cell, Member, RunFailed, Sample, gate, run_group
from .peers.base import Peer
from .peers.mqshm import destroy, new_name
from .report import Mark
from .shapes import payload

UNIT = "ms (traffic: % of the rate)"
PEERS = ["mqshm"]
TOPICS, MESSAGES = 10_000, 1_000_000
DATA = payload(7, 64)
LOOKS = 30
OFTEN = 20  # looks a second, while it looks
CHUNK = 100


def fill(name: str, groups: int) -> Any:
    """A broker with all that waits in it, shared out over topics and groups."""
    import mqshm

    broker = mqshm.connect(name, supervisor=False)
    topics, each = TOPICS // groups, MESSAGES // groups
    for group in range(groups):
        broker.create_group(f"group-{group}", f"g{group}.*", buffer_size=each + 1000)
        for topic in range(topics):
            for _ in range(each // topics // CHUNK):
                broker.publish_batch(f"g{group}.t{topic}", [DATA] * CHUNK)
    return broker


def check(groups: int, _count: int) -> Sample:
    name = new_name()

    def work() -> Sample:
        with fill(name, groups) as broker:
            seen = broker.health_check()
            if (seen.topics, seen.waiting) != (TOPICS, MESSAGES):
                raise RunFailed(f"{seen.topics} topics and {seen.waiting} messages were seen")
            took = []
            for _ in range(LOOKS):
                start = time.perf_counter()
                broker.health_check()
                took.append(1e3 * (time.perf_counter() - start))
                time.sleep(0.02)  # so that not all is in the caches from the last time
            cpu = time.process_time()
            for _ in range(LOOKS):
                broker.health_check()
            cpu = 1e3 * (time.process_time() - cpu) / LOOKS
            took.sort()
            return Sample(statistics.median(took), sum(took) / 1e3, {"worst": took[-1], "cpu": cpu})

    try:
        sample: Sample = run_group([Member(work)], 120.0)[0]
        return sample
    finally:
        destroy(name)


def traffic(seconds: int) -> Sample:
    name, meet = new_name(), gate(3)

    def producer() -> list[int]:
        import mqshm

        with fill(name, 10) as broker:
            broker.create_group("live", "live", ack=mqshm.AckPolicy.NONE, buffer_size=4096)
            meet.wait()
            return _count(seconds, start_of(meet), lambda: broker.publish_batch("live", [DATA] * CHUNK))

    def consumer() -> None:
        import mqshm

        meet.wait()
        with mqshm.connect(name, supervisor=False) as broker, broker.subscribe("live", group="live") as sub:
            ends = start_of(meet) + seconds + 0.5
            while time.monotonic() < ends:
                sub.receive_batch(CHUNK, timeout=0.1)

    def looker() -> None:
        import mqshm

        meet.wait()
        with mqshm.connect(name, supervisor=False) as broker:
            broker.health_check()
            began = start_of(meet)
            for number in range(1, seconds, 2):
                for look in range(OFTEN):
                    time.sleep(max(0.0, began + number + (look + 0.5) / OFTEN - time.monotonic()))
                    broker.health_check()

    try:
        counts = run_group([Member(producer, 0), Member(consumer, 1), Member(looker)], seconds + 120.0)[0]
    finally:
        destroy(name)
    if not all(counts):
        raise RunFailed("the traffic stood still for a second")
    looked = [2 * counts[at] / (counts[at - 1] + counts[at + 1]) for at in range(1, seconds - 1, 2)]
    quiet = [2 * counts[at] / (counts[at - 2] + counts[at + 2]) for at in range(2, seconds - 2, 2)]
    ratio, noise = statistics.median(looked), statistics.median(quiet)
    detail = {"often": 100 * ratio, "quiet": 100 * noise, "rate": statistics.median(counts)}
    return Sample(100 - 100 * (1 - ratio) / OFTEN, seconds, detail)


def start_of(meet: Any) -> float:
    """The same moment for all, soon."""
    meet.wait()
    return float(int(time.monotonic()) + 2)


def _count(seconds: int, start: float, work: Callable[[], object]) -> list[int]:
    """Messages of each second."""
    counts = [0] * seconds
    while (now := time.monotonic() - start) < seconds:
        work()
        if now >= 0:
            counts[int(now)] += CHUNK
    return counts


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    seconds = 7 if quick else 41
    return [
        Cell(peer.name, mode, variant, run, count, fixed=True)
        for peer in peers
        for mode, variant, run, count in (
            ("check", "10 groups", partial(check, 10), 1),
            ("check", "1000 groups", partial(check, 1000), 1),
            ("traffic", "a look each second", traffic, seconds),
        )
    ]


MARKS = [
    Mark("health_check(), 1 M messages", "mqshm/check/10 groups", (), 20.0, at_least=False, unit="ms"),
    Mark("health_check(), 1000 groups", "mqshm/check/1000 groups", (), 20.0, at_least=False, unit="ms"),
    Mark("traffic with a look a second", "mqshm/traffic/a look each second", (), 99.0, unit="%"),
]
