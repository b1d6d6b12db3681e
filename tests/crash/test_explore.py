"""The C core under a scheduler that tries its interleavings and deaths, and under threads with the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.crash.programs import C, make, needs, run


def test_no_schedule_and_no_death_loses_or_doubles_a_message(tmp_path: Path) -> None:
    needs("make", "gcc")
    make(C / "explore", tmp_path, "CC=gcc", "CFLAGS=-O2")
    run(tmp_path / "explore", "--short")


def can_sanitize(kind: str, where: Path) -> bool:
    source = where / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    built = subprocess.run(["clang", f"-fsanitize={kind}", "-o", where / "empty", source], capture_output=True)
    return built.returncode == 0 and subprocess.run([where / "empty"], capture_output=True).returncode == 0


@pytest.fixture(scope="module", params=["thread", "address"])
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("make", "clang")
    place = tmp_path_factory.mktemp("threads")
    if not can_sanitize(request.param, place):
        pytest.skip(f"clang has no working -fsanitize={request.param} here")
    program = place / f"threads-{request.param}"
    make(C / "threads", place, str(program))
    return program


@pytest.mark.parametrize("deaths", [False, True], ids=["calm", "deaths"])
def test_threads_that_come_and_go_and_die_are_clean(sanitized: Path, deaths: bool) -> None:
    run(
        sanitized,
        *(["--deaths"] if deaths else []),
        "--seconds",
        "3",
        where=C / "threads",
        TSAN_OPTIONS="suppressions=suppressions.txt halt_on_error=1",
        # Who dies while it allocates leaks: that is no fault of the core's.
        ASAN_OPTIONS=f"detect_leaks={int(not deaths)}",
    )
