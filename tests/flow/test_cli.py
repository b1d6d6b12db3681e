import json
import os
import signal
import subprocess
import sys

import pytest

import mqshm
from tests.conftest import until


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "mqshm", *map(str, arguments)], capture_output=True, text=True, timeout=60, **options
    )


def fine(*arguments, **options):
    done = command(*arguments, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


VERBS = ["up", "worker", "ls", "status", "pub", "sub", "peek", "purge", "fsck", "bench", "demo", "rm", "completion"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    assert "usage: " in fine(verb, "--help")


def test_messages_go_from_shell_to_shell(name):
    with mqshm.connect(name) as broker:
        broker.create_group("g", "a.*")
    fine("pub", name, "a.b", "hello", "--priority", "high")
    fine("pub", name, "a.b", input="two\nlines\n")
    fine("pub", name, "a.c", "--lines", input="one\ntwo\n")
    fine("pub", name, "a.c", "x", "--count", 2)
    assert fine("sub", name, "a.*", "--group", "g", "--ack", "--count", 3) == "hello\ntwo\nlines\n\none\n"
    rest = fine("sub", name, "a.*", "--group", "g", "--ack", "--timeout", 0.1, "--json")
    assert [json.loads(line)["data"] for line in rest.splitlines()] == ["two", "x", "x"]


def test_ls_and_status_and_rm(name):
    with mqshm.connect(name) as broker:
        broker.create_group("g", "a")
        broker.publish("a", b"x")
        assert name in fine("ls").splitlines()
        assert name in json.loads(fine("ls", "--json"))
        assert name in fine("status", name)
        assert json.loads(fine("status", name, "--json"))["groups"]["g"]["waiting"] == 1
        assert "1" in fine("peek", name, "g")
        assert json.loads(fine("peek", name, "g", "--json"))[0]["data"] == "x"
        assert "clean" in fine("fsck", name, "--json")
        assert "slots used" in fine("fsck", name)
        assert json.loads(fine("purge", name, "g", "--json")) == {"purged": 1}
    fine("rm", name)
    assert name not in mqshm.list_brokers()


@pytest.mark.parametrize("verb", [["status"], ["peek", "g"], ["purge", "g"], ["fsck"], ["rm"]])
def test_a_broker_that_is_not_there_is_one_line_on_stderr(name, verb):
    done = command(verb[0], name, *verb[1:])
    assert done.returncode == 1
    assert done.stderr.startswith("mqshm: ")
    assert done.stderr.count("\n") == 1
    assert name not in mqshm.list_brokers()


def test_a_group_that_is_not_there_is_one_line_on_stderr(broker):
    done = command("purge", broker.name, "none")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "none" in done.stderr


def test_ctrl_c_is_quiet(broker):
    process = subprocess.Popen(
        [sys.executable, "-m", "mqshm", "sub", broker.name, "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: broker.stats().private and broker.stats().private[0].consumers, "the subscriber")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (b"", b"", 130)


def test_a_broken_pipe_is_quiet(broker):
    broker.create_group("g", "a", buffer_size=100_000)
    broker.publish_batch("a", [b"x" * 100] * 20_000)
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "mqshm", "sub", broker.name, "a", "--group", "g", "--ack", "--timeout", "1"],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert os.read(read, 10)
    os.close(read)
    _, err = process.communicate(timeout=20)
    assert (err, process.returncode) == (b"", 0)


def test_a_wrong_command_line_is_told_so(name):
    assert command("nonsense").returncode == 2
    assert command("pub", name, "a", "x", "--priority", "urgent").returncode == 2


def test_the_demo_counts_a_directory(tmp_path):
    for n in range(40):
        (tmp_path / f"{n}.txt").write_text("".join(f"the quick brown fox {n} {m % 97}\n" for m in range(1000)))
    out = fine("demo", tmp_path)
    assert "killed with SIGKILL" in out
    assert "equal      40,000 lines" in out
