"""Boost.Interprocess, in C++: compiled where its headers are installed (apt install libboost-dev). See boost.cpp."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..build import built, run
from ..harness import RunFailed, Sample
from ..shapes import Shape
from .base import Cores, Peer


def program() -> Path:
    return built(Path(__file__).with_suffix(".cpp"), os.environ.get("CXX", "c++"))


class Boost(Peer):
    name = "boost"
    modes: Mapping[str, tuple[str, ...]] = {
        "pingpong": ("poll", "block"),
        "stream": ("single",),
        "priorities": ("five",),
    }

    def missing(self) -> str | None:
        try:
            program()
        except RunFailed as failure:
            return str(failure)
        return None

    def stream(self, shape: Shape, count: int) -> Sample:
        answer = run(program(), "stream", shape.size, count)
        return Sample(answer["rate"], answer["seconds"])

    def priorities(self, levels: int, count: int) -> Sample:
        answer = run(program(), "priority", levels, count)
        return Sample(answer["rate"], answer["seconds"])

    def pingpong(self, shape: Shape, count: int, cores: Cores, hog: int | None = None) -> Sample:
        if None in cores or hog is not None:
            raise RunFailed("runs on two given cores, alone")
        laps = run(program(), "pingpong", count, *cores, *(["poll"] if shape.mode == "poll" else []))
        tail = {name: laps[f"{name}_ns"] / 1000 for name in ("p99", "p999")}
        return Sample(laps["p50_ns"] / 1000, laps["seconds"], tail)


PEERS = {"boost": Boost()}
