"""What does a process cost that waits for a message that does not come? Share of a core, in percent."""

from __future__ import annotations

import time
from functools import partial

from .harness import Cell, Member, RunFailed, Sample, cpu_seconds, gate, run_group
from .peers.base import Peer
from .report import Mark
from .shapes import Shape, payload

UNIT = "% of a core"
PEERS = ["mqshm", "mp.Queue", "mp.Pipe", "faster-fifo", "zmq"]
SIZE = 64


def idle(peer: Peer, seconds: int) -> Sample:
    """The consumer waits as its library waits; the message that ends it comes after `seconds`."""
    link = peer.open(Shape("block", SIZE))
    meet = gate(2)

    def wait() -> tuple[float, float]:
        receiver = link.receiver(0)
        meet.wait()
        receiver.connect()
        meet.wait()
        cpu, start = cpu_seconds(), time.monotonic()
        got = receiver.receive()
        spent = cpu_seconds() - cpu, time.monotonic() - start
        if got != payload(1, SIZE):
            raise RunFailed("woken without the message")
        meet.wait()
        return spent

    def end_it() -> None:
        sender = link.sender(0)
        meet.wait()
        sender.connect()
        meet.wait()
        time.sleep(seconds)
        sender.send(payload(1, SIZE))
        sender.flush()
        meet.wait()

    try:
        cpu, waited = run_group([Member(wait), Member(end_it)], seconds + 20.0)[0]
    finally:
        link.close()
    return Sample(100 * cpu / waited, waited)


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    seconds = 2 if quick else 5
    return [
        Cell(peer.name, mode, "idle", partial(idle, peer), seconds, fixed=True)
        for peer in peers
        for mode in peer.modes.get("idle", ())
    ]


MARKS = [Mark("an idle consumer", "mqshm/block/idle", (), 0.2, at_least=False, unit="%")]
