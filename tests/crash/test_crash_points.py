"""A process dies at each of its accesses to shared memory, with the core as it is but for the hooks."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.crash.programs import C, make, needs, run


def test_a_death_after_any_store_loses_nothing_and_costs_nothing(tmp_path: Path) -> None:
    needs("make", "gcc")
    program = tmp_path / "crash_points"
    make(C, tmp_path, "CC=gcc", str(program))
    scenes = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    assert len(scenes) > 100
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda scene: run(program, "--short", "--only", scene), scenes))
