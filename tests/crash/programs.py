"""Building and running the programs in tests/c, and saying why where that is not possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
C = TESTS / "c"
NOT_PERMITTED = 77  # the exit code of a program that the system does not let do its work


def needs(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found")


def make(room: Path, build: Path, *arguments: str) -> None:
    command = ["make", "-j2", f"BUILD={build}", *arguments]
    built = subprocess.run(command, cwd=room, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr


def run(*command: str | Path, where: Path = C, **environment: str) -> None:
    """Its output is the report of a failure: it says how to see it again."""
    result = subprocess.run(
        list(map(str, command)), cwd=where, capture_output=True, text=True, env={**os.environ, **environment}
    )
    print(result.stdout)
    if result.returncode == NOT_PERMITTED:
        pytest.skip(result.stderr.strip() or "not permitted here")
    assert result.returncode == 0, result.stdout + result.stderr
