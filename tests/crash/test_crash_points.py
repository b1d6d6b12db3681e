"""A process dies at each of its accesses to shared memory, with the core as it is but for the hooks."""

from __future__ import annotations

from pathlib import Path

from tests.crash.programs import C, make, needs, run


def test_a_death_after_any_store_loses_nothing_and_costs_nothing(tmp_path: Path) -> None:
    needs("make", "gcc")
    program = tmp_path / "crash_points"
    make(C, tmp_path, "CC=gcc", str(program))
    run(program, "--short")
