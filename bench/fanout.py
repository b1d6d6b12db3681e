"""How many deliveries a second, when each message of one process goes to 8 others?"""

from __future__ import annotations

from functools import partial

from .harness import Cell
from .peers.base import Peer
from .report import Mark
from .shapes import Shape

UNIT = "deliveries/s"
PEERS = ["mqshm", "zmq", "iceoryx2", "mp.Pipe"]
RECEIVERS = 8
SIZES = {1024: "1 KiB", 65536: "64 KiB"}
LARGE = 65536


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    return [
        Cell(peer.name, mode, name, partial(peer.stream, Shape(mode, size, 1, RECEIVERS, True)), 500)
        for size, name in SIZES.items()
        for peer in peers
        for mode in peer.modes.get("fanout", ())
        if not (mode == "view" and size < LARGE)
    ]


_PYTHON = ("zmq/single/1 KiB", "iceoryx2/single/1 KiB", "mp.Pipe/single/1 KiB")
_LARGE = ("iceoryx2/single/64 KiB", "iceoryx2/view/64 KiB")

MARKS = [
    Mark("8 x 1 KiB, beside the best Python peer", "mqshm/single/1 KiB", _PYTHON, 3.5),
    Mark("8 x 64 KiB, views, beside iceoryx2's best", "mqshm/view/64 KiB", _LARGE, 1.8),
]
