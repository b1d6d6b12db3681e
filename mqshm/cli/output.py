"""How the verbs print: JSON for programs, aligned columns for people."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mqshm.words import size as size


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


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


def payload(data: bytes) -> None:
    """One message a line, its bytes as they are."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.write(b"\n")
