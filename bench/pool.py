"""How many messages a second go through a work queue, from N producers to N competing consumers, each exactly once?

mqshm leases and acks every message; the others have no acks. pyzmq deals its messages round robin: its consumers do not
compete, and what a slow one was dealt waits for it.
"""

from __future__ import annotations

from functools import partial

from .harness import Cell
from .peers.base import Peer
from .report import Mark
from .shapes import Shape

UNIT = "messages/s"
PEERS = ["mqshm", "mqshm-cffi", "zmq", "faster-fifo", "mp.Queue"]
SIZE = 64


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    return [
        Cell(peer.name, mode, f"{n}x{n}", partial(peer.pool, Shape(mode, SIZE, n, n)), 10_000)
        for n in ((4,) if quick else (2, 4))
        for peer in peers
        for mode in peer.modes.get("pool", ())
    ]


MARKS = [
    Mark("4x4 leased and acked, beside pyzmq PUSH/PULL", "mqshm/acked/4x4", ("zmq/single/4x4",), 1.3),
    Mark("4x4 leased and acked, beside faster-fifo", "mqshm/acked/4x4", ("faster-fifo/single/4x4",), 5.0),
]
