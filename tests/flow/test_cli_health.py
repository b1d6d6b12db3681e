"""status, top and config, with a terminal and without."""

import dataclasses
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

import mqshm
from mqshm.cli.top import View, frame
from mqshm.diagnosis import OfLate, judged
from tests.conftest import DEADLINE
from tests.flow.test_cli import command, fine


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, columns, rows, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            # As Python has it: readline has put COLUMNS into the C library's, which would go before the terminal.
            environ = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
            command = [sys.executable, "-m", "mqshm", *map(str, arguments)]
            os.execve(sys.executable, command, {**environ, "TERM": "xterm"})
        self.text = ""

    def until(self, what):
        ends = time.monotonic() + DEADLINE
        while not re.search(what, self.text, re.S):
            assert time.monotonic() < ends, (what, self.text)
            if not self.read():
                raise AssertionError((what, self.text))

    def read(self):
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            part = os.read(self.fd, 1 << 16)
        except OSError:
            return False
        self.text += part.decode(errors="replace")
        return bool(part)

    def press(self, keys):
        self.text = ""
        os.write(self.fd, keys)

    def end(self):
        """Its exit code."""
        ends = time.monotonic() + DEADLINE
        while self.read() and time.monotonic() < ends:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def lines(self):
        """Of the last whole screen."""
        screens = self.text.split("\x1b[H")
        return screens[-2 if len(screens) > 2 else -1].replace("\x1b[K", "").replace("\x1b[J", "").split("\r\n")


@pytest.fixture
def terminal():
    opened = []

    def start(*arguments):
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield start
    for each in opened:
        try:
            os.kill(each.pid, signal.SIGKILL)
            os.waitpid(each.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(each.fd)


@pytest.fixture
def busy(broker):
    """A broker with something to see in it."""
    broker.create_group("full", "a.#", buffer_size=3)
    broker.create_group("a-name-that-is-longer-than-there-is-room-for-it-in-a-table", "b")
    broker.publish_batch("a.eu.berlin", [b"x" * 100] * 3)
    for number in range(30):
        broker.create_group(f"g{number}", f"c.{number}")
        broker.publish(f"c.{number}", b"x")
    return broker


# ---- status


def test_status_says_what_is_the_matter_and_what_to_do(busy):
    text = fine("status", busy.name)
    assert f"{busy.name}: unhealthy" in text
    assert "queue_full: group 'full' is full: 3 of 3" in text
    assert "To do: start a consumer" in text
    found = json.loads(fine("status", busy.name, "--json"))
    assert (found["status"], found["reasons"][0]["code"], found["groups"]["full"]["waiting"]) == (
        "unhealthy", "queue_full", 3,
    )  # fmt: skip
    assert found["rates"]["seconds"] > 0.2
    assert found["groups"]["full"]["waiting_by_priority"]["20"] == 3


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_status_keeps_to_the_width_of_the_terminal(busy, terminal, columns):
    shown = terminal(columns, 24, "status", busy.name)
    assert shown.end() == 0
    lines = shown.text.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("GROUP") and "WAITING" in line for line in lines)
    assert columns < 80 or any("USERS" in line for line in lines)


def test_status_watches_until_ctrl_c(busy, terminal):
    shown = terminal(80, 24, "status", busy.name, "--watch", "--interval", "0.1")
    shown.until(r"\x1b\[H.*\x1b\[H.*\x1b\[H")
    shown.press(b"\x03")
    assert shown.end() == 130
    assert "Traceback" not in shown.text


def test_status_watched_by_a_program_is_a_line_of_json_each_time(broker):
    process = subprocess.Popen(
        [sys.executable, "-m", "mqshm", "status", broker.name, "--watch", "--json", "--interval", "0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert [json.loads(process.stdout.readline())["status"] for _ in range(3)] == ["healthy"] * 3
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (err, process.returncode) == ("", 130)


# ---- top


@pytest.mark.parametrize("columns", [80, 40])
def test_top_fills_the_screen_and_no_more_and_obeys_keys(busy, terminal, columns):
    shown = terminal(columns, 24, "top", busy.name, "--interval", "0.1")
    shown.until(r"GROUP.*WAITING\*.*\x1b\[H")
    lines = shown.lines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= columns
    shown.press(b"t")
    shown.until(r"TOPIC.*IN/s\*")
    shown.press(b">")
    shown.until(r"MESSAGES\*")
    shown.press(b"\x1b[D")
    shown.until(r"IN/s\*")
    shown.press(b"p")
    shown.until(r"PROGRAM.*CPU%\*")
    shown.press(b"q")
    assert shown.end() == 0
    assert shown.text.endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_top_leaves_the_terminal_as_it_was(busy, terminal, how, code):
    shown = terminal(80, 24, "top", busy.name)
    was = termios.tcgetattr(shown.fd)[3]
    shown.until("GROUP")
    assert termios.tcgetattr(shown.fd)[3] != was
    os.kill(shown.pid, how)
    assert shown.end() == code
    assert termios.tcgetattr(shown.fd)[3] == was
    assert "\x1b[?1049l" in shown.text
    assert "Traceback" not in shown.text


def test_top_of_no_broker_in_particular_shows_all(busy, terminal):
    shown = terminal(80, 24, "top", "--interval", "0.1")
    shown.until(f"BROKER.*{busy.name}.*unhealthy")
    shown.press(b"q")
    assert shown.end() == 0
    found = json.loads(fine("top", "--json"))
    assert "unhealthy" in [each["status"] for each in found if each["name"] == busy.name]


def test_top_without_a_terminal_is_one_look(busy):
    text = fine("top", busy.name)
    assert all(word in text for word in ("GROUP", "TOPIC", "PROGRAM", "a.eu.berlin", "queue_full"))
    found = json.loads(fine("top", busy.name, "--json"))
    assert {"a.eu.berlin", "c.7"} <= {each["topic"] for each in found["topics"]}
    assert found["health"]["name"] == busy.name


def test_a_frame_sorts_by_what_is_asked_for(busy):
    seen = busy.health_check()

    def order(view):
        lines = frame(seen, [], view, 80, 60, True)
        heads = next(number for number, line in enumerate(lines) if line.startswith("GROUP"))
        return [line.split()[0] for line in lines[heads + 1 :]]

    view = View()
    assert order(view)[0] == "full"
    assert order(view.after("r"))[-1] == "full"
    by_name = view.after("<")
    assert by_name.column == "GROUP"
    assert order(by_name)[0].startswith("a-name-that")
    assert order(by_name.after("r"))[-1].startswith("a-name-that")
    assert view.after("x") == view


def test_a_process_that_calls_itself_by_control_characters_does_not_move_the_cursor(broker):
    seen = broker.health_check()
    evil = dataclasses.replace(seen.processes[0], program="evil\x1b[2J", state="dead")
    seen = judged(dataclasses.replace(seen, processes=(evil,)), broker.config, OfLate({}, {}), mqshm.Thresholds())
    lines = [*frame(seen, [], View("p", "PID"), 80, 60, True), *frame(seen, [], View(), 80, 60, False)]
    assert any("evil?[2J" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


# ---- config


def test_config_is_read_and_changed(broker, tmp_path):
    text = fine("config", broker.name)
    assert "max_topics = 0\n" in text
    file = tmp_path / "broker.toml"
    file.write_text(text)
    from mqshm.settings import load

    assert load(file, {}) == broker.config
    assert fine("config", broker.name, "set", "max_memory_usage", "512MiB") == "max_memory_usage = 536870912\n"
    assert fine("config", broker.name, "set", "max_topics=9", "backoff=1,2") == "max_topics = 9\nbackoff = [1.0, 2.0]\n"
    assert (broker.config.max_memory_usage, broker.config.max_topics, broker.config.backoff) == (512 << 20, 9, (1, 2))
    assert fine("config", broker.name, "get", "max_topics", "overflow") == 'max_topics = 9\noverflow = "block"\n'
    assert json.loads(fine("config", broker.name, "--json"))["max_topics"] == 9
    assert json.loads(fine("config", broker.name, "get", "max_topics", "--json")) == {"max_topics": 9}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["set"], "FIELD VALUE"),
        (["set", "max_topics"], "FIELD VALUE"),
        (["set", "max_topics", "1", "2"], "FIELD VALUE"),
        (["set", "max_topics=1", "overflow=x"], "overflow"),
        (["set", "max_topics", "-1"], "max_topics"),
        (["set", "max_topics=-1"], "command line: max_topics = '-1'"),
        (["set", "max_topix", "1"], "did you mean max_topics"),
        (["set", "mode", "0o600"], "cannot change while the broker is there"),
        (["get", "max_topix"], "no such field: max_topix"),
    ],
)
def test_a_change_that_is_not_one_changes_nothing(broker, words, says):
    before = broker.config
    done = command("config", broker.name, *words)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert broker.config == before
