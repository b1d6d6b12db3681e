"""Is a message's path as fast as in another build of mqshm? The same runs, interleaved.

The other build is a checkout of its own, built in place: MQSHM_OTHER=FOLDER python -m bench builds --rounds 15. Without
it nothing is asked. Neither build uses anything but publish, receive and ack, which both have.
"""

from __future__ import annotations

from functools import partial

from .harness import Cell
from .peers.base import Peer
from .peers.mqshm import OTHER
from .report import Mark
from .shapes import Shape

UNIT = "messages/s"
PEERS = ["mqshm", "mqshm-other"] if OTHER else []
SIZE = 64
MODES = ("single", "batch", "acked")
SAME = 0.97  # within 3 %


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    if len(peers) < len(PEERS):
        return []
    return [
        Cell(peer.name, mode, "1x1", partial(peer.stream, Shape(mode, SIZE)), 20_000)
        for mode in MODES
        for peer in peers
    ]


MARKS = [
    Mark(f"one to one, {mode}, beside the other build", f"mqshm/{mode}/1x1", (f"mqshm-other/{mode}/1x1",), SAME)
    for mode in MODES
    if OTHER
]
