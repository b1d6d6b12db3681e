"""Random operations against a model, and damaged segments: the short forms of tests/c/fuzz."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.programs import C, make, needs, run
from tests.crash.test_explore import can_sanitize

FUZZ = C / "fuzz"


def needs_sanitizer(where: Path) -> None:
    needs("make", "clang")
    if not can_sanitize("address", where):
        pytest.skip("clang has no working -fsanitize=address here")


def test_a_broker_does_what_its_model_does_whoever_dies(tmp_path: Path) -> None:
    needs("make", "gcc")
    make(FUZZ, tmp_path, "CC=gcc", "ops")
    run(tmp_path / "fuzz_ops", "--count", "60000", "--seed", "1")


def test_a_broker_does_what_its_model_does_under_the_sanitizers(tmp_path: Path) -> None:
    needs_sanitizer(tmp_path)
    make(FUZZ, tmp_path, "asan")
    run(tmp_path / "fuzz_ops_asan", "--count", "20000", "--seed", "1")


def test_whatever_was_done_to_a_segment_every_call_comes_back(tmp_path: Path) -> None:
    needs("make", "gcc")
    make(FUZZ, tmp_path, "CC=gcc", str(tmp_path / "fuzz_damage"))
    run(tmp_path / "fuzz_damage", "--count", "400", "--seed", "1")


def test_whatever_was_done_to_a_segment_no_call_leaves_it(tmp_path: Path) -> None:
    needs_sanitizer(tmp_path)
    make(FUZZ, tmp_path, str(tmp_path / "fuzz_damage_asan"))
    run(tmp_path / "fuzz_damage_asan", "--count", "150", "--seed", "1", "--deadline", "10000")


def test_the_fuzzer_that_is_led_by_coverage_runs(tmp_path: Path) -> None:
    needs_sanitizer(tmp_path)
    make(FUZZ, tmp_path, "libfuzzer")
    run(tmp_path / "fuzz_ops_lf", "-runs=50", "-max_len=4096", "-seed=1", f"-artifact_prefix={tmp_path}/")
