"""A bare futex in C: what a round trip between sleepers costs with nothing around it. See limits.c."""

from __future__ import annotations

from collections.abc import Mapping

from ..build import limits, run
from ..harness import RunFailed, Sample
from ..shapes import Shape
from .base import Cores, Peer


class Futex(Peer):
    name = "futex"
    modes: Mapping[str, tuple[str, ...]] = {"pingpong": ("block",)}

    def missing(self) -> str | None:
        try:
            limits()
        except RunFailed as failure:
            return str(failure)
        return None

    def pingpong(self, shape: Shape, count: int, cores: Cores, hog: int | None = None) -> Sample:
        if None in cores or hog is not None:
            raise RunFailed("runs on two given cores, alone")
        laps = run(limits(), "futex", count, *cores)
        tail = {name: laps[f"{name}_ns"] / 1000 for name in ("p99", "p999")}
        return Sample(laps["p50_ns"] / 1000, laps["seconds"], tail)


PEERS = {"futex": Futex()}
