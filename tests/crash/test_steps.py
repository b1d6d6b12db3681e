"""A process dies, or is stopped, between any two instructions of the core as it is shipped."""

from __future__ import annotations

from pathlib import Path

from tests.crash.programs import C, make, needs, run


def test_a_death_or_a_stop_after_any_instruction_loses_nothing_and_holds_up_nobody(tmp_path: Path) -> None:
    needs("make", "gcc")
    program = tmp_path / "steps"
    make(C, tmp_path, "CC=gcc", str(program))
    run(program, "--short")
