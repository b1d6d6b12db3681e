"""up: a broker with its supervisor in the foreground."""

from __future__ import annotations

import argparse
from typing import Any

from mqshm import Config
from mqshm.supervisor import process


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("up", help="make a broker, and run its supervisor in the foreground")
    verb.add_argument("name")
    verb.add_argument("--memory", type=_size, metavar="SIZE", help="limit of a broker that is made: 512MiB, 1GiB")
    verb.set_defaults(run=up)


_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _size(text: str) -> int:
    number = text.rstrip("BbIiKkMmGgTt")
    unit = text[len(number) :].upper().removesuffix("IB").removesuffix("B")
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512MiB or 1GiB") from None


def up(chosen: argparse.Namespace) -> int:
    config = Config(max_memory_usage=chosen.memory) if chosen.memory else Config()
    return process.foreground(chosen.name, config, 0o600)
