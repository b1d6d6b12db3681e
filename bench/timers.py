"""How late is what has a time, with a million other times pending, and what does it cost to watch for them?

A process sleeps in mqshm_watch as the supervisor does. `lease`: from the end of a lease to the message's next
delivery; `delay` and `given back`: from the end of a delay to the delivery; `expiry`: from the end of a message that
nobody receives to when its memory is free and it is counted. The figure is the 99th percentile. `watcher` is the
watching process's own share of a core, with a million messages waiting and ten thousand leases out, while nothing
happens. `sleep` is what the scheduler alone makes of it: a process that sleeps until such times, and has no broker.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .harness import Cell, Member, RunFailed, Sample, cpu_seconds, gate, now, run_group
from .peers.base import Peer
from .peers.mqshm import destroy, new_name
from .report import Mark, table

UNIT = "ms late (watcher: % of a core)"
PEERS = ["mqshm"]
PENDING, LEASES, CHUNK = 1_000_000, 10_000, 1000
MEASURED = 2000
SPREAD_MS = (200, 4000)
HOUR = 3600.0
STEPS_MS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 1000)
histograms: dict[str, list[float]] = {}


def fill(name: str, pending: int) -> Any:
    """A broker in which so many messages wait, each with its time to come."""
    import mqshm

    broker = mqshm.connect(name, supervisor=False, config=mqshm.Config(message_ttl=HOUR))
    broker.create_group("pending", "pending", buffer_size=pending + 1)
    for _ in range(pending // CHUNK):
        broker.publish_batch("pending", [b"x" * 32] * CHUNK)
    return broker


def spread(count: int) -> list[int]:
    return [random.randint(*SPREAD_MS) for _ in range(count)]


def received(sub: Any, count: int, due: Callable[[Any], int | None]) -> list[int]:
    """ns late, of so many deliveries that had a time; `due` settles."""
    late: list[int] = []
    while len(late) < count:
        message = sub.receive(timeout=SPREAD_MS[1] / 1000 + 10.0)
        at = now()
        if message is None:
            raise RunFailed(f"{count - len(late)} of {count} did not come")
        expected = due(message)
        if expected is not None:
            late.append(at - expected)
    return late


def delay(broker: Any, count: int) -> list[int]:
    def due(message: Any) -> int:
        message.ack()
        return int(message.data)

    with broker.subscribe("timed", group="timed", buffer_size=count) as sub:
        for ms in spread(count):
            broker.publish("timed", b"%d" % (now() + ms * 1_000_000), delay=ms / 1000)
        return received(sub, count, due)


def given_back(broker: Any, count: int) -> list[int]:
    ends: dict[bytes, int] = {}

    def due(message: Any) -> int | None:
        if message.data in ends:
            message.ack()
            return ends[message.data]
        ms = random.randint(*SPREAD_MS)
        ends[message.data] = now() + ms * 1_000_000
        message.nack(delay=ms / 1000)
        return None

    with broker.subscribe("timed", group="timed", buffer_size=count) as sub:
        broker.publish_batch("timed", [b"%d" % number for number in range(count)])
        return received(sub, count, due)


def lease(broker: Any, count: int) -> list[int]:
    import mqshm

    ends: dict[bytes, int] = {}
    kept = []

    def due(message: Any) -> int:
        message.ack()
        return ends[message.data]

    with broker.subscribe("timed", group="timed", buffer_size=count, ack=mqshm.AckPolicy.TIMEOUT) as sub:
        for number, ms in enumerate(spread(count)):
            broker.publish("timed", b"%d %d" % (number, ms), ack_timeout=ms / 1000)
        while len(kept) < count:
            begins, message = now(), sub.receive_nowait()
            data = message.data
            if data not in ends:  # else the first leases are over already
                ends[data] = begins + int(data.split()[1]) * 1_000_000
                kept.append(message)
        return received(sub, count, due)


def expiry(broker: Any, count: int) -> list[int]:
    """The n-th that went is taken for the one with the n-th end."""
    broker.create_group("timed", "timed", buffer_size=count)
    ends = []
    for ms in spread(count):
        ends.append(time.time_ns() + ms * 1_000_000)
        broker.publish("timed", b"x" * 32, ttl=ms / 1000)
    ends.sort()
    late: list[int] = []
    while len(late) < count:
        gone, at = broker.stats().groups["timed"].expired, time.time_ns()
        late += [at - end for end in ends[len(late) : gone]]
        if at > ends[-1] + 10_000_000_000:
            raise RunFailed(f"{count - len(late)} of {count} are still there")
        time.sleep(0.0002)
    return late


def sleep(_pending: int, count: int) -> Sample:
    def work() -> list[int]:
        ends = sorted(now() + ms * 1_000_000 for ms in spread(count))
        late = []
        for end in ends:
            time.sleep(max(0, end - now()) / 1e9)
            late.append(now() - end)
        return late

    return judged("sleep", run_group([Member(work)], 60.0)[0], {})


def judged(variant: str, late: list[int], detail: dict[str, float]) -> Sample:
    ms = histograms[variant] = sorted(each / 1e6 for each in late)
    shares = {"p50": ms[len(ms) // 2], "p999": ms[len(ms) * 999 // 1000], "worst": ms[-1]}
    return Sample(ms[len(ms) * 99 // 100], 0.0, {**shares, **detail})


def watched(name: str, meet: Any, done: Any) -> float:
    """CPU seconds, from the first meeting to the end."""
    import mqshm
    from mqshm._native import lib

    meet.wait()
    with mqshm.connect(name, supervisor=False) as broker:
        handle = broker._attachment.handle
        lib.mqshm_watch(handle, 0)
        meet.wait()
        cpu = cpu_seconds()
        while not done.is_set():
            if lib.mqshm_watch(handle, 100_000_000) not in (lib.MQSHM_OK, lib.MQSHM_TIMEOUT):
                raise RunFailed("the watcher failed")
        return cpu_seconds() - cpu


def together(pending: int, work: Callable[[Any], list[int]]) -> tuple[list[int], float, float]:
    """What the work gave, seconds, and those of the watcher's CPU."""
    from .harness import FORK

    name, meet, done = new_name(), gate(2), FORK.Event()

    def measure() -> tuple[list[int], float]:
        with fill(name, pending) as broker:
            meet.wait()
            meet.wait()
            began = time.monotonic()
            late = work(broker)
            took = time.monotonic() - began
            done.set()
            return late, took

    try:
        (late, took), cpu = run_group([Member(measure), Member(partial(watched, name, meet, done))], 120.0)
    finally:
        destroy(name)
    return late, took, cpu


def lateness(pending: int, variant: str, work: Callable[[Any, int], list[int]], count: int) -> Sample:
    late, took, cpu = together(pending, lambda broker: work(broker, count))
    if min(late) < 0:
        raise RunFailed(f"one came {-min(late) / 1e6:.1f} ms before its time")
    return judged(variant, late, {"watcher_%": 100 * cpu / took})


def watcher(pending: int, seconds: int) -> Sample:
    import mqshm

    def rest(broker: Any) -> list[int]:
        broker.create_group("leased", "leased", buffer_size=LEASES, ack=mqshm.AckPolicy.TIMEOUT, ack_timeout=HOUR)
        with broker.subscribe("leased", group="leased") as sub:
            broker.publish_batch("leased", [b"x"] * LEASES)
            kept = sub.receive_batch(LEASES)
            time.sleep(seconds)
            return [len(kept)]

    _, took, cpu = together(pending, rest)
    return Sample(100 * cpu / took, took)


def epilogue(say: Callable[[str], None]) -> None:
    """How many of a thousand were at most so late."""
    rows = [["of a thousand, late at most", *(f"{step:g} ms" for step in STEPS_MS)]]
    for variant, late in histograms.items():
        rows.append([variant, *(f"{1000 * sum(each <= step for each in late) / len(late):.0f}" for step in STEPS_MS)])
    say(table(rows))


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    pending, count = (10_000, 200) if quick else (PENDING, MEASURED)
    kinds = {"lease": lease, "delay": delay, "given back": given_back, "expiry": expiry}
    bare = [Cell("sleep", "bare", "sleep", partial(sleep, pending), count, fixed=True)]
    timed = [
        Cell(peer.name, "watched", kind, partial(lateness, pending, kind, work), count, fixed=True)
        for peer in peers
        for kind, work in kinds.items()
    ]
    resting = [
        Cell(peer.name, "idle", "watcher", partial(watcher, pending), 2 if quick else 10, fixed=True) for peer in peers
    ]
    return bare + timed + resting


MARKS = [
    *(
        Mark(f"{kind}: 99 of 100 in time", f"mqshm/watched/{kind}", (), 10.0, at_least=False, unit="ms")
        for kind in ("lease", "delay", "given back", "expiry")
    ),
    Mark("the watcher beside a million messages", "mqshm/idle/watcher", (), 1.0, at_least=False, unit="%"),
]
