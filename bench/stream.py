"""How many messages a second go from one process to another? 64 B to 1 MiB; one call each, batches, views."""

from __future__ import annotations

from functools import partial

from .harness import Cell
from .peers.base import Peer
from .report import Mark
from .shapes import Shape

UNIT = "messages/s"
PEERS = ["mqshm", "mqshm-cffi", "zmq", "plain-ring", "faster-fifo", "iceoryx2", "mp.Queue", "mp.Pipe", "boost"]
SIZES = {64: "64 B", 1024: "1 KiB", 65536: "64 KiB", 1 << 20: "1 MiB"}
LARGE = 65536


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    found = []
    for size, name in SIZES.items():
        for peer in peers:
            for mode in peer.modes.get("stream", ()):
                if mode == "view" and size < LARGE:
                    continue
                start = 20_000 if size < LARGE else 200
                found.append(Cell(peer.name, mode, name, partial(peer.stream, Shape(mode, size)), start))
    return found


def _all(mode: str, variant: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{name}/{mode}/{variant}" for name in names)


MARKS = [
    Mark("64 B, one call each, beside pyzmq", "mqshm/single/64 B", _all("single", "64 B", "zmq"), 2.0),
    Mark(
        "1 KiB, one call each, beside the plain ring", "mqshm/single/1 KiB", _all("single", "1 KiB", "plain-ring"), 2.0
    ),
    Mark(
        "64 B, batches of 100, beside the best Python batch",
        "mqshm/batch/64 B",
        _all("batch", "64 B", "faster-fifo"),
        7.0,
    ),
    Mark("64 B, batches of 100, beside Boost in C++", "mqshm/batch/64 B", _all("single", "64 B", "boost"), 1.7),
    Mark("64 KiB, copying, beside the plain ring", "mqshm/single/64 KiB", _all("single", "64 KiB", "plain-ring"), 0.95),
    Mark("1 MiB, copying, beside the plain ring", "mqshm/single/1 MiB", _all("single", "1 MiB", "plain-ring"), 0.95),
    Mark("64 KiB, views, beside iceoryx2's", "mqshm/view/64 KiB", _all("view", "64 KiB", "iceoryx2"), 1.3),
    Mark("1 MiB, views, beside iceoryx2's", "mqshm/view/1 MiB", _all("view", "1 MiB", "iceoryx2"), 0.97),
    Mark("64 B, cffi alone, beside pyzmq", "mqshm-cffi/single/64 B", _all("single", "64 B", "zmq"), 1.0),
]
