"""How long do a publish and a receive take at worst, where 16 busy processes share the cores?

Every process puts one message in and takes one out, over and over, on one queue that always holds more messages than
there are processes: nobody waits for messages or for room, only for each other. What is left in the tail is the
scheduler's doing, and what a lock adds when its holder is preempted.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial

from .harness import Cell, Member, RunFailed, Sample, gate, now, percentiles, run_group
from .peers.base import Peer
from .report import Mark
from .shapes import HEAD, Shape, payload

UNIT = "µs, p99.9"
PEERS = ["mqshm", "mqshm-cffi", "mp.Queue", "faster-fifo"]
PROCESSES = 16
STOCK = 8  # messages for each process
SIZE = 64


def tail(peer: Peer, measured: str, count: int) -> Sample:
    link = peer.open(Shape("single", SIZE, PROCESSES, PROCESSES))
    meet = gate(PROCESSES)
    each = max(50, count // PROCESSES)

    def work(number: int) -> tuple[bytes, bytes, bytes, int]:
        sender, receiver = link.sender(number), link.receiver(number)
        mine = [payload(number * (each + STOCK) + at, SIZE) for at in range(each + STOCK)]
        got: list[bytes] = []
        puts, takes = array("q", bytes(8 * each)), array("q", bytes(8 * each))
        for data in mine[each:]:
            sender.send(data)
        meet.wait()
        sender.connect()
        receiver.connect()
        meet.wait()
        begin = now()
        send, receive = sender.send, receiver.receive
        for at in range(each):
            before = now()
            send(mine[at])
            between = now()
            got.append(receive())
            takes[at] = now() - between
            puts[at] = between - before
        spent = now() - begin
        meet.wait()
        got.extend(receive() for _ in range(STOCK))
        meet.wait()
        if any(data != data[:HEAD] * (SIZE // HEAD) for data in got):
            raise RunFailed("a payload is damaged")
        numbers = array("Q", (int.from_bytes(data[:HEAD], "little") for data in got))
        return puts.tobytes(), takes.tobytes(), numbers.tobytes(), spent

    def member(number: int) -> Callable[[], tuple[bytes, bytes, bytes, int]]:
        return lambda: work(number)

    try:
        answers = run_group([Member(member(number)) for number in range(PROCESSES)], 60.0)
    finally:
        link.close()
    seen = array("Q")
    laps = array("q")
    for puts, takes, numbers, _ in answers:
        seen.frombytes(numbers)
        laps.frombytes(puts if measured == "publish" else takes)
    total = PROCESSES * (each + STOCK)
    if sorted(seen) != list(range(total)):
        raise RunFailed(f"sent {total}, received {len(seen)}, {len(set(seen))} of them distinct")
    detail = percentiles(laps)
    return Sample(
        detail["p999"], max(answer[3] for answer in answers) / 1e9, {"p50": detail["p50"], "p99": detail["p99"]}
    )


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    return [
        Cell(peer.name, mode, measured, partial(tail, peer, measured), 3200, 400_000)
        for measured in ("publish", "receive")
        for peer in peers
        for mode in peer.modes.get("tail", ())
    ]


_NAMES = ("mp.Queue", "faster-fifo")
MARKS = [
    Mark(text, f"mqshm/single/{end}", tuple(f"{name}/single/{end}" for name in _NAMES), 1.0, at_least=False)
    for end, text in (("publish", "publish, 16 busy processes"), ("receive", "receive, 16 busy processes"))
]
