"""How the verbs print: JSON for programs, aligned columns for people."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mqshm.words import size as size


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def count(text: str) -> int:
    """For argparse: an int of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def seconds(text: str) -> float:
    """For argparse: seconds of a timeout."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:  # nan too
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def as_json(value: Any, *, indent: int | None = 2) -> None:
    print(json.dumps(value, default=_plain, indent=indent), flush=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The first column to the left, numbers to the right."""
    lines = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())


def room() -> tuple[int, int]:
    """Columns and lines to print in: those of the terminal, and plenty where there is none."""
    if not sys.stdout.isatty():
        return 1000, 1 << 30
    there = shutil.get_terminal_size()
    return max(20, there.columns), max(5, there.lines)


def screen(lines: Iterable[str], *, clear: bool) -> None:
    """`clear`: in the place of what is there, on a terminal; after an empty line otherwise."""
    if clear and sys.stdout.isatty():
        body = "".join(f"{line}\033[K\n" for line in lines)
        sys.stdout.write(f"\033[H{body}\033[J")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines) + ("\n" if clear else ""))
    sys.stdout.flush()


def interval(text: str) -> float:
    """For argparse: seconds between two looks."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0.1 to 86400 seconds")
    return value


def payload(data: bytes) -> None:
    """One message a line, its bytes as they are."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.write(b"\n")
