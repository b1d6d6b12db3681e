import shutil
import subprocess
import sys

import pytest

import mqshm
from tests.flow.test_cli import fine


def completed(script, *words):
    """What bash would offer for the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    lines = f"{script}\nCOMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}\n_mqshm\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    program = f'mqshm() {{ "{sys.executable}" -m mqshm "$@"; }}\n{lines}'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


@pytest.fixture(scope="module")
def script():
    return fine("completion", "bash")


def test_verbs_are_completed(script):
    assert completed(script, "mqshm", "p") == ["peek", "pub", "purge"]


def test_options_and_their_values_are_completed(script):
    assert completed(script, "mqshm", "fsck", "--rep") == ["--repair"]
    assert completed(script, "mqshm", "worker", "--restart", "on") == ["on-failure"]
    assert completed(script, "mqshm", "completion", "") == ["bash", "zsh", "fish"]


def test_brokers_are_completed_where_one_is_meant(script, name):
    with mqshm.connect(name):
        assert completed(script, "mqshm", "status", name[:-1]) == [name]
        assert completed(script, "mqshm", "demo", name[:-1]) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_can_read(shell):
    script = fine("completion", shell)
    assert "worker" in script
    assert "on-failure" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n", "-c", script], check=True, timeout=60)
