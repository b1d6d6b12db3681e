"""How long is the round trip of 64 bytes between two processes? Polling and blocking, on two cores or one shared.

The variants: `free` as users run it, `two cores` a core each, `one core` both on one, `one core + hog` and
`two cores + hog` with a third process that has work to do on the answerer's core.
"""

from __future__ import annotations

import os
from functools import partial

from .harness import Cell
from .peers.base import Peer
from .report import Mark
from .shapes import Shape

UNIT = "µs, p50"
PEERS = [
    "mqshm", "mqshm-cffi", "mqshm-nospin", "plain-ring", "iceoryx2", "boost", "mp.Pipe", "mp.Queue", "faster-fifo",
    "zmq", "futex",
]  # fmt: skip
IN_C = ("boost", "futex")


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    cores = sorted(os.sched_getaffinity(0))
    first, second = cores[0], cores[-1]
    places: dict[str, tuple[tuple[int | None, int | None], int | None]] = {
        "free": ((None, None), None),
        "two cores": ((first, second), None),
        "one core": ((first, first), None),
        "one core + hog": ((first, first), first),
        "two cores + hog": ((first, second), second),
    }
    if first == second:
        places = {name: place for name, place in places.items() if name.startswith("one core")}
    found = []
    for variant, (where, hog) in places.items():
        if quick and variant == "free":
            continue
        for peer in peers:
            for mode in peer.modes.get("pingpong", ()):
                polls_for_a_core = mode == "poll" and variant not in ("free", "two cores")
                if polls_for_a_core or (peer.name in IN_C and (variant == "free" or hog is not None)):
                    continue
                run = partial(peer.pingpong, Shape(mode, 64), cores=where, hog=hog)
                found.append(Cell(peer.name, mode, variant, run, 500, 100_000))
    return found


def _beside(text: str, ours: str, theirs: str, variant: str, goal: float) -> Mark:
    return Mark(text, f"{ours}/{variant}", (f"{theirs}/{variant}",), goal, at_least=False)


MARKS = [
    _beside("polling, beside the plain ring", "mqshm/poll", "plain-ring/poll", "two cores", 0.6),
    _beside("polling, beside iceoryx2", "mqshm/poll", "iceoryx2/poll", "two cores", 1 / 5),
    _beside("blocking, two cores, beside mp.Pipe", "mqshm/block", "mp.Pipe/block", "two cores", 1 / 30),
    _beside("blocking, one core, beside mp.Pipe", "mqshm/block", "mp.Pipe/block", "one core", 1.0),
    _beside("spin off, two cores, beside a bare futex", "mqshm-nospin/block", "futex/block", "two cores", 1.1),
    _beside("blocking, one core with a hog, beside mp.Pipe", "mqshm/block", "mp.Pipe/block", "one core + hog", 3.0),
    _beside("blocking, two cores with a hog, beside mp.Pipe", "mqshm/block", "mp.Pipe/block", "two cores + hog", 3.0),
]
