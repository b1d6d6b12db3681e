"""The short form: a calm shift and one with deaths, over each front."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mqshm

DEADLINE = 240.0


@pytest.mark.parametrize("front", ["fast", "plain"])
def test_nothing_is_lost_doubled_or_invented_while_processes_are_killed_and_stopped(front, tmp_path):
    if front == "fast":
        pytest.importorskip("mqshm._front")
    command = [sys.executable, "-m", "tests.stress", "--minutes", "0.1", "--shift", "3"]
    command += ["--plain"] if front == "plain" else []
    environment = {name: value for name, value in os.environ.items() if name != "MQSHM_FRONT"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "TMPDIR": str(tmp_path)},
        cwd=Path(mqshm.__file__).parents[1],
        start_new_session=True,
    ) as run:
        try:
            output, _ = run.communicate(timeout=DEADLINE)
        except BaseException:
            os.killpg(run.pid, signal.SIGKILL)
            raise
    assert run.returncode == 0, output
    killed = re.search(r"(\d+) killed, (\d+) messages published, (\d+) received: 0 problems", output)
    assert killed and all(int(number) for number in killed.groups()), output
    assert not list(tmp_path.iterdir())
