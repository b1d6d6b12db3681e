"""The benchmarks that need no server run, in their quick form; a server that one starts does not outlive it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bench.peers import present, server  # noqa: E402  # of the checkout, not installed
from tests.conftest import until  # noqa: E402

BROKERS = ["rabbitmq", "redis", "nats"]


def bench(*words: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--seconds", "0.02", *words],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def alive(pid: int) -> bool:
    """A zombie is not: it is for whoever waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def measured(out: str) -> dict[str, str]:
    """The figure of each cell."""
    rows = (line.split("  ") for line in out.partition("\nMarks")[0].splitlines() if "/1x1" in line)
    return {row[0].strip(): next(word.strip() for word in row[1:] if word) for row in rows}


def test_the_work_queue_is_measured_one_at_a_time_and_in_batches() -> None:
    figures = measured(bench("workqueue", "--peers", "mqshm"))
    assert set(figures) == {"mqshm/single/1x1", "mqshm/batch/1x1"}
    assert "failed" not in figures.values()


def test_a_build_is_measured_beside_another() -> None:
    out = bench("builds", MQSHM_OTHER=str(ROOT))
    figures = measured(out)
    assert len(figures) == 6, out
    assert "failed" not in figures.values(), out


def test_brokers_whose_server_is_not_installed_are_skipped_with_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "program", lambda name: None)
    peers, lines = present(BROKERS)
    assert not peers
    assert [line.partition(" not installed")[0] for line in lines] == [
        f"{name}: skipped: {name}-server" for name in BROKERS
    ]


def test_a_keeper_whose_input_ends_leaves_no_process_of_its_server_and_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    script = "setsid sh -c 'echo $$ > orphan.new; mv orphan.new orphan; exec sleep 600' & echo $$ > pid; exec sleep 600"
    keeper = subprocess.Popen(
        [sys.executable, server.__file__.replace("server.py", "keeper.py"), folder, json.dumps([["sh", "-c", script]])],
        stdin=subprocess.PIPE,
    )
    try:
        until((folder / "orphan").exists, "the orphan")
        pids = [int((folder / name).read_text()) for name in ("pid", "orphan")]
        assert all(map(alive, pids))
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        assert keeper.wait(20) == 0
    assert not any(map(alive, pids))
    assert not folder.exists()
