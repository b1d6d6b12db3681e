"""The loads: one to one, a pool, fan-out, round trips. Each is one run, with every message checked.

Payloads are made before the clock starts. Up to 64 bytes every message is unique and checked whole; larger ones come
from a ring of distinct payloads, and length and 8-byte head of each are checked. Rates are messages over the time from
the first send to the last receive.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .harness import FORK, Member, RunFailed, Sample, cpu_seconds, gate, now, percentiles, run_group

WHOLE = 64  # bytes up to which payloads are unique and checked whole
HEAD = 8
BATCHES = {64: 100, 1024: 100, 65536: 16, 1 << 20: 4}
WARM_UP = 200


@dataclass(frozen=True)
class Shape:
    """What a peer is asked to open."""

    mode: str  # single, batch, poll, view, acked; a peer may have more
    size: int
    producers: int = 1
    consumers: int = 1
    fanout: bool = False
    acked: bool = False  # every message is leased and acked, in whatever mode

    @property
    def leased(self) -> bool:
        return self.acked or self.mode == "acked"

    @property
    def batch(self) -> int:
        return BATCHES.get(self.size, 100)


def payload(number: int, size: int) -> bytes:
    return number.to_bytes(HEAD, "little") * (size // HEAD)


def payloads(size: int, count: int, first: int = 0) -> list[bytes]:
    """What to send, in order."""
    if size <= WHOLE:
        return [payload(number, size) for number in range(first, first + count)]
    ring = [payload(number, size) for number in range({1024: 256, 65536: 64}.get(size, 16))]
    return [ring[number % len(ring)] for number in range(count)]


def wanted(size: int, count: int) -> list[bytes]:
    """What the receiver compares with: whole payloads, or their heads."""
    sent = payloads(size, count)
    return sent if size <= WHOLE else [data[:HEAD] for data in sent]


def lists_of(items: Sequence[bytes], length: int) -> list[list[bytes]]:
    return [list(items[at : at + length]) for at in range(0, len(items), length)]


def check_levels(got: Sequence[bytes], levels: int) -> None:
    """Message i had priority i mod `levels`: all are there, and in order within each."""
    for level in range(levels):
        numbers = [number for data in got if (number := int.from_bytes(data[:HEAD], "little")) % levels == level]
        if numbers != list(range(level, len(got), levels)):
            raise RunFailed("lost, or out of order within a priority")


# ---- one to one, and fan-out ---------------------------------------------------------------------------------------


def stream(open_link: Callable[[Shape], Any], shape: Shape, count: int) -> Sample:
    """One producer; one consumer, or `shape.consumers` that each get everything. Deliveries per second."""
    link = open_link(shape)
    meet = gate(1 + shape.consumers)

    def produce() -> tuple[int, int, float]:
        sender = link.sender(0)
        sending: Any = payloads(shape.size, count)
        send = sender.send_each
        if shape.mode == "batch":
            sending, send = lists_of(sending, shape.batch), sender.send_lists
        _meet(meet, sender)
        cpu, start = cpu_seconds(), now()
        send(sending)
        spent = cpu_seconds() - cpu
        meet.wait()
        sender.close()
        return start, 0, spent

    def consume(number: int) -> tuple[int, int, float]:
        receiver = link.receiver(number)
        wants = wanted(shape.size, count)
        take = receiver.take_lists if shape.mode == "batch" else receiver.take_each
        _meet(meet, receiver)
        cpu = cpu_seconds()
        take(wants, shape)
        end, spent = now(), cpu_seconds() - cpu
        meet.wait()
        receiver.close()
        return 0, end, spent

    members = [Member(partial(consume, number)) for number in range(shape.consumers)]
    try:
        spans = run_group([Member(produce), *members])
    finally:
        link.close()
    return _rate(spans, count * shape.consumers)


def _meet(meet: Any, end: Any) -> None:
    meet.wait()  # all are open
    end.connect()
    meet.wait()  # all are connected


def _rate(spans: Sequence[tuple[int, int, float]], count: int) -> Sample:
    start = min(span[0] for span in spans if span[0])
    seconds = (max(span[1] for span in spans) - start) / 1e9
    return Sample(count / seconds, seconds, {"cpu_us": sum(span[2] for span in spans) * 1e6 / count})


# ---- pool ----------------------------------------------------------------------------------------------------------


def pool(open_link: Callable[[Shape], Any], shape: Shape, count: int) -> Sample:
    """Producers and competing consumers: what all consumers got must be exactly what was sent, nothing twice."""
    link = open_link(shape)
    meet = gate(shape.producers + shape.consumers + 1)
    sent = gate(shape.producers + 1)
    each = count // shape.producers
    total = each * shape.producers
    stop = b"\xff" * shape.size
    counters = FORK.RawArray("Q", shape.consumers)

    def produce(number: int) -> tuple[int, int, float, bytes]:
        sender = link.sender(number)
        sending = [payload(index, shape.size) for index in range(number * each, (number + 1) * each)]
        _meet(meet, sender)
        cpu, start = cpu_seconds(), now()
        sender.send_each(sending)
        spent = cpu_seconds() - cpu
        sender.flush()
        sent.wait()
        meet.wait()
        sender.close()
        return start, 0, spent, b""

    def end() -> tuple[int, int, float, bytes]:
        """A message for each consumer, behind all others. Where messages are dealt out, silence ends the run."""
        sender = link.sender(shape.producers)
        _meet(meet, sender)
        sent.wait()
        if link.competes:
            sender.send_each([stop] * shape.consumers)
            sender.flush()
        meet.wait()
        sender.close()
        return 0, 0, 0.0, b""

    def consume(number: int) -> tuple[int, int, float, bytes]:
        receiver = link.receiver(number)
        got: list[bytes] = []
        _meet(meet, receiver)
        cpu = cpu_seconds()

        def over() -> bool:
            counters[number] = len(got)
            return bool(sum(counters) == total)

        end = receiver.take_until(stop, over, got)
        spent = cpu_seconds() - cpu
        meet.wait()
        receiver.close()
        numbers = array("Q", (int.from_bytes(data[:HEAD], "little") for data in got))
        if any(data != payload(index, shape.size) for data, index in zip(got, numbers, strict=True)):
            raise RunFailed("a payload is damaged")
        return 0, end, spent, numbers.tobytes()

    members = [Member(partial(produce, number)) for number in range(shape.producers)]
    members += [Member(partial(consume, number)) for number in range(shape.consumers)]
    members.append(Member(end))
    try:
        answers = run_group(members)
    finally:
        link.close()
    seen = array("Q")
    for answer in answers:
        seen.frombytes(answer[3])
    if len(seen) != total or set(seen) != set(range(total)):
        raise RunFailed(f"sent {total}, received {len(seen)}, {len(set(seen))} of them distinct")
    return _rate([answer[:3] for answer in answers], total)


# ---- round trips ---------------------------------------------------------------------------------------------------


def pingpong(
    open_link: Callable[[Shape], Any],
    shape: Shape,
    count: int,
    cores: tuple[int | None, int | None],
    hog: int | None = None,
) -> Sample:
    """Round trips of one message between two processes, with a third that burns the core `hog`, if given."""
    there, back = open_link(shape), open_link(shape)
    meet = gate(2)
    data = payload(7, shape.size)

    def ask() -> list[int]:
        sender, receiver = there.sender(0), back.receiver(0)
        meet.wait()
        sender.connect()
        receiver.connect()
        meet.wait()
        send, receive = sender.send, receiver.receive
        laps = array("q", bytes(8 * (count + WARM_UP)))
        before = now()
        for lap in range(count + WARM_UP):
            send(data)
            while (got := receive()) is None:
                pass
            if got != data:
                raise RunFailed("the answer is not what was sent")
            after = now()
            laps[lap] = after - before
            before = after
        meet.wait()
        sender.close()
        receiver.close()
        return laps[WARM_UP:].tolist()

    def answer() -> None:
        receiver, sender = there.receiver(0), back.sender(0)
        meet.wait()
        receiver.connect()
        sender.connect()
        meet.wait()
        send, receive = sender.send, receiver.receive
        for _ in range(count + WARM_UP):
            while (got := receive()) is None:
                pass
            send(got)
        meet.wait()
        sender.close()
        receiver.close()

    members = [Member(ask, cores[0]), Member(answer, cores[1])]
    burner = _burn(hog) if hog is not None else None
    try:
        laps = run_group(members)[0]
    finally:
        if burner:
            os.kill(burner, 9)
            os.waitpid(burner, 0)
        there.close()
        back.close()
    detail = percentiles(laps)
    return Sample(detail["p50"], sum(laps) / 1e9, {"p99": detail["p99"], "p999": detail["p999"]})


def _burn(core: int) -> int:
    """Another program that has work to do, on the same core."""
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {core})
        parent = os.getppid()
        while os.getppid() == parent:
            for _ in range(100_000):
                pass
        os._exit(0)
    return pid
