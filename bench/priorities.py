"""What do five priorities in use cost, beside one? One to one, 64 B, with the order within each priority checked."""

from __future__ import annotations

from functools import partial

from .harness import Cell, Member, Sample, gate, now, run_group
from .peers.base import Peer
from .peers.boost import Boost
from .peers.mqshm import TOPIC, Mqshm
from .peers.posix_mq import PosixQueue
from .report import Mark
from .shapes import Shape, check_levels, payloads

UNIT = "messages/s"
PEERS = ["mqshm", "boost", "posix-mq"]
SIZE = 64
LEVELS = 5


def priorities(peer: Mqshm, levels: int, count: int, named: bool = True) -> Sample:
    """Message i has priority number i mod `levels`, counted from the middle outwards: one level is the default one."""
    link = peer.link(Shape("single", SIZE))
    meet = gate(2)

    def produce() -> int:
        import mqshm

        steps = sorted(mqshm.Priority, key=lambda step: abs(step - mqshm.Priority.NORMAL))[:levels]
        sending = [(data, steps[at % levels]) for at, data in enumerate(payloads(SIZE, count))]
        broker = link.attach()
        publish = broker.publish
        meet.wait()
        start = now()
        if named:
            for data, priority in sending:
                publish(TOPIC, data, priority=priority)
        else:
            for data, _ in sending:
                publish(TOPIC, data)
        meet.wait()
        broker.close()
        return start

    def consume() -> int:
        broker = link.attach()
        sub = broker.subscribe(TOPIC, group="group-0")
        receive = sub.receive
        got = []
        meet.wait()
        for _ in range(count):
            got.append(receive().data)
        end = now()
        meet.wait()
        broker.close()
        check_levels(got, levels)
        return end

    try:
        start, end = run_group([Member(produce), Member(consume)])
    finally:
        link.close()
    seconds = (end - start) / 1e9
    return Sample(count / seconds, seconds)


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    found = []
    for peer in peers:
        if isinstance(peer, Mqshm):
            found.append(Cell(peer.name, "single", "none named", partial(priorities, peer, 1, named=False), 20_000))
            found.append(Cell(peer.name, "single", "one in use", partial(priorities, peer, 1), 20_000))
            found.append(Cell(peer.name, "single", "five in use", partial(priorities, peer, LEVELS), 20_000))
        elif isinstance(peer, (Boost, PosixQueue)):
            found.append(Cell(peer.name, "single", "five in use", partial(peer.priorities, LEVELS), 20_000))
    return found


MARKS = [
    Mark(
        "five priorities in use, beside one, named or not",
        "mqshm/single/five in use",
        ("mqshm/single/one in use", "mqshm/single/none named"),
        0.85,
    ),
    Mark("five priorities in use, beside posix_ipc", "mqshm/single/five in use", ("posix-mq/single/five in use",), 5.0),
]
