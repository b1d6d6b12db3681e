"""The algorithm apart from the code: models, searched by spin."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.crash.programs import TESTS, needs, run


def test_the_models_hold_and_their_faults_are_found(tmp_path: Path) -> None:
    needs("spin", "gcc")
    run(sys.executable, TESTS / "model" / "check.py", "--short", TMPDIR=str(tmp_path))
