import json
import os
import signal
import subprocess
import sys
from pathlib import Path

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


VERBS = ["up", "worker", "ls", "status", "top", "config", "pub", "sub", "peek", "purge", "dlq", "fsck", "bench", "demo",
         "rm", "completion"]  # fmt: skip


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


@pytest.mark.parametrize("verb", [["status"], ["top"], ["config"], ["peek", "g"], ["purge", "g"], ["fsck"], ["rm"]])
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


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["pub", "NAME", "a", "x", "--priority", "urgent"],
        *(["pub", "NAME", "a", "x", option, value] for option in ("--count", "--timeout") for value in ("-1", "x", "")),
        ["pub", "NAME", "a", "x", "--count", "0"],
        ["pub", "NAME", "a", "x", "--timeout", "nan"],
        ["sub", "NAME", "a", "--count", "0"],
        ["sub", "NAME", "a", "--timeout", "-1"],
        ["peek", "NAME", "g", "--limit", "0"],
    ],
)
def test_a_wrong_command_line_is_told_so(name, words):
    done = command(*(name if word == "NAME" else word for word in words))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("mqshm")
    assert "Traceback" not in done.stderr
    assert name not in mqshm.list_brokers()


@pytest.mark.parametrize("words", [["x", "--lines"], ["x", "--ttl", "1e99"]])
def test_what_does_not_go_together_is_one_line_on_stderr(name, words):
    done = command("pub", name, "a", *words)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_the_longest_timeout_is_for_ever(name):
    assert fine("pub", name, "a", "x", "--timeout", "inf") == ""


def _shell(line, *arguments):
    words = ["sh", "-c", line, sys.executable, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_a_closed_stdout_or_stdin_is_one_line_on_stderr(broker):
    for line in ('"$0" -m mqshm status "$1" >&-', '"$0" -m mqshm pub "$1" a <&-'):
        done = _shell(line, broker.name)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "is closed" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_one_line_on_stderr(broker, unbuffered):
    done = _shell(f'PYTHONUNBUFFERED={unbuffered} "$0" -m mqshm status "$1" >/dev/full', broker.name)
    assert (done.returncode, done.stderr) == (1, "mqshm: the output cannot be written: no space left on its device\n")


def test_a_locale_without_the_letters_prints_them_escaped(broker):
    broker.create_group("g", "#")
    broker.publish("straße", "grün")
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    assert "stra\\xdfe" in fine("peek", broker.name, "g", env=ascii_only)
    assert "gr\\xfcn" in fine("peek", broker.name, "g", env=ascii_only)
    assert "gr\\u00fcn" in fine("peek", broker.name, "g", "--json", env=ascii_only)


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(100_000), b"\0mqqshm1" + bytes(5000)])
@pytest.mark.parametrize("verb", [["status"], ["pub", "a", "x"], ["sub", "a"], ["peek", "g"], ["purge", "g"], ["fsck"]])
def test_a_file_that_is_no_segment_is_one_line_on_stderr(name, verb, content):
    Path(f"/dev/shm/mqshm.{name}").write_bytes(content)
    done = command(verb[0], name, *verb[1:])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert f"`mqshm rm {name}` removes it" in done.stderr
    fine("rm", name)


def test_the_demo_counts_a_directory(tmp_path):
    for n in range(40):
        (tmp_path / f"{n}.txt").write_text("".join(f"the quick brown fox {n} {m % 97}\n" for m in range(1000)))
    out = fine("demo", tmp_path)
    assert "killed with SIGKILL" in out
    assert "equal      40,000 lines" in out
