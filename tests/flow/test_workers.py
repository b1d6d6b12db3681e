"""`mqshm worker`: handlers in processes that are kept running."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mqshm
from mqshm.errors import InvalidConfig
from mqshm.supervisor.handler import load
from tests.conftest import until

HANDLERS = """
import os, pathlib, signal, time

def note(message, what=""):
    with open("seen", "a") as seen:
        seen.write(f"{os.getpid()} {message.data.decode()} {message.attempt}{what}\\n")

def seen(message):
    note(message)

def fails_at_first(message):
    note(message)
    if message.attempt == 1:
        raise ValueError("not yet")

def kills_itself_at_first(message):
    note(message)
    if message.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)

def leaves(message):
    message.ack()
    raise SystemExit(3)

def slow(message):
    note(message, " began")
    while not os.path.exists("go"):
        time.sleep(0.005)
    note(message, " ended")

def rejects(message):
    note(message)
    message.reject("no")

async def coroutine(message):
    pass

class Names:
    function = staticmethod(seen)

number = 3
"""


@pytest.fixture
def broker(broker):
    broker.create_group("g", "a", backoff=(0.01, 0.05))
    return broker


@pytest.fixture
def place(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


@pytest.fixture
def start(broker, place):
    started = []

    def worker(target, *options):
        process = subprocess.Popen(
            [sys.executable, "-m", "mqshm", "worker", broker.name, "a", f"handlers:{target}", "--group", "g", *options],
            cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield worker
    for process in started:
        for pid in children(process):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def lines(place):
    seen = place / "seen"
    return seen.read_text().splitlines() if seen.exists() else []


def stop(process, number=signal.SIGTERM):
    """The events of its log, and what else stood on stderr."""
    process.send_signal(number)
    return told(process)


def told(process):
    _, err = process.communicate(timeout=20)
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return events, [line for line in err.splitlines() if not line.startswith("{")]


def stopping(process):
    """Returns when the workers have been told to end."""
    while json.loads(process.stderr.readline())["event"] != "stopping":
        pass


def children(process):
    try:
        return list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
    except FileNotFoundError:
        return []


def idle(broker):
    stats = broker.stats().groups["g"]
    return stats.waiting == stats.in_flight == stats.delayed == 0


def test_each_message_is_handled_and_acked(broker, place, start):
    process = start("seen", "-c", "2")
    broker.publish_batch("a", [str(n) for n in range(20)])
    until(lambda: len(lines(place)) == 20 and idle(broker), "the messages")
    assert sorted(int(line.split()[1]) for line in lines(place)) == list(range(20))
    events, rest = stop(process)
    assert (process.returncode, rest) == (0, [])
    started = [each["worker"] for each in events if each["event"] == "worker started"]
    assert len(started) == 2
    assert {int(line.split()[0]) for line in lines(place)} <= set(started)


def test_a_handler_that_raises_is_reported_and_its_worker_goes_on(broker, place, start):
    process = start("fails_at_first")
    broker.publish("a", "x", id="o-17")
    until(lambda: len(lines(place)) == 2 and idle(broker), "the second attempt")
    events, _ = stop(process)
    (failed,) = [each for each in events if each["event"] == "handler failed"]
    assert (failed["topic"], failed["id"], failed["attempt"]) == ("a", "o-17", 1)
    assert "ValueError: not yet" in failed["error"]
    assert len({line.split()[0] for line in lines(place)}) == 1


def test_a_handler_that_raises_ends_its_worker_where_that_is_asked_for(broker, place, start):
    start("fails_at_first", "--end-on-error")
    broker.publish("a", "x")
    until(lambda: len(lines(place)) == 2 and idle(broker), "the second attempt")
    assert len({line.split()[0] for line in lines(place)}) == 2


def test_a_worker_that_is_killed_is_restarted_and_its_message_handled(broker, place, start):
    process = start("kills_itself_at_first")
    broker.publish("a", "x")
    until(lambda: len(lines(place)) == 2 and idle(broker), "the second attempt")
    events, _ = stop(process)
    assert [each["how"] for each in events if each["event"] == "worker ended"] == ["SIGKILL", "exit code 0"]


def test_the_end_of_one_worker_is_no_matter_to_the_others(broker, place, start):
    process = start("slow", "-c", "2")
    broker.publish_batch("a", ["one", "two"])
    until(lambda: len(lines(place)) == 2, "both at work")
    first, second = (int(line.split()[0]) for line in lines(place))
    os.kill(first, signal.SIGKILL)
    until(lambda: len(lines(place)) == 3, "the message of the first, again")
    (place / "go").touch()
    until(lambda: idle(broker), "the end of the work")
    assert f"{second} two 1 ended" in lines(place) or f"{second} one 1 ended" in lines(place)
    stop(process)


def test_too_many_ends_are_the_end_with_a_line_that_says_so(broker, place, start):
    process = start("leaves", "--max-restarts", "2")
    broker.publish_batch("a", ["x"] * 5)
    events, rest = told(process)
    assert process.returncode == 1
    assert rest == ["mqshm: handlers:leaves ended 3 times within 10 s, the last time by exit code 3: given up"]
    assert len([each for each in events if each["event"] == "worker started"]) == 3
    assert broker.stats().groups["g"].waiting == 2


def test_without_restarts_it_ends_when_its_workers_have(broker, start):
    process = start("leaves", "--restart", "never", "-c", "2")
    broker.publish_batch("a", ["x"] * 2)
    _, rest = told(process)
    assert (process.returncode, rest) == (0, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_the_message_in_hand(broker, place, start, number):
    process = start("slow")
    broker.publish_batch("a", ["one", "two"])
    until(lambda: len(lines(place)) == 1, "the first message")
    process.send_signal(number)
    stopping(process)
    (place / "go").touch()
    told(process)
    assert process.returncode == 0
    assert [line.split(maxsplit=1)[1] for line in lines(place)] == ["one 1 began", "one 1 ended"]
    assert broker.stats().groups["g"].waiting == 1


@pytest.mark.parametrize("second", [True, False])
def test_a_worker_that_does_not_end_is_killed_and_its_message_stays(broker, place, start, second):
    process = start("slow", "--grace", "30" if second else "0.1")
    broker.publish("a", "one")
    until(lambda: lines(place), "the message")
    process.send_signal(signal.SIGTERM)
    if second:
        stopping(process)
        process.send_signal(signal.SIGTERM)
    events, _ = told(process)
    assert [each["event"] for each in events][-2:] == ["workers killed", "worker ended"]
    assert broker.subscribe("a", group="g").receive(timeout=20.0).attempt == 2


def test_workers_end_with_the_one_that_runs_them(broker, place, start):
    process = start("seen")
    broker.publish("a", "x")
    until(lambda: idle(broker) and lines(place), "the message")
    worker = int(lines(place)[0].split()[0])
    process.kill()
    process.wait()
    until(lambda: worker not in [peer.pid for peer in broker.stats().peers if peer.alive], "the end of the worker")


def test_what_the_handler_settled_stays_so(broker, place, start):
    process = start("rejects")
    broker.publish("a", "x")
    until(lambda: broker.stats().groups["g"].rejected == 1, "the rejection")
    events, _ = stop(process)
    assert not [each for each in events if each["level"] != "info"]


def test_the_group_is_named_after_the_handler_unless_it_is_given(broker, place):
    process = subprocess.Popen(
        [sys.executable, "-m", "mqshm", "worker", broker.name, "a", "handlers:seen"], cwd=place, stderr=subprocess.PIPE
    )
    until(lambda: "handlers:seen" in broker.stats().groups, "the group")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere:f", "no module 'nowhere'"),
        ("handlers:nothing", "nothing"),
        ("handlers", "module:function"),
        (":f", "module:function"),
        ("handlers:number", "int, not a function"),
        ("handlers:coroutine", "coroutine"),
    ],
)
def test_a_handler_that_is_none_is_told_at_once(broker, place, target, says, monkeypatch):
    done = subprocess.run(
        [sys.executable, "-m", "mqshm", "worker", broker.name, "a", target, "--group", "g"],
        cwd=place, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    rest = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == 1
    assert len(rest) == 2
    assert says in rest[0]
    assert rest[1] == f"mqshm: {target} cannot be run"


def test_options_that_the_group_has_not_are_told_at_once(broker, start):
    process = start("seen", "--ack-timeout", "5")
    _, rest = told(process)
    assert process.returncode == 1
    assert "group 'g' is there already" in rest[0]


def test_a_name_may_lead_through_a_class(place, monkeypatch):
    monkeypatch.syspath_prepend(place)
    assert load("handlers:Names.function").__name__ == "seen"
    with pytest.raises(InvalidConfig, match="lead"):
        load("handlers:Names.lead")
    sys.modules.pop("handlers")


@pytest.mark.parametrize(
    "wrong", [["-c", "0"], ["--restart", "sometimes"], ["--max-restarts", "-1"], ["--period", "0"]]
)
def test_options_that_make_no_sense_are_refused(start, wrong):
    process = start("seen", *wrong)
    _, err = process.communicate(timeout=20)
    assert process.returncode in (1, 2)
    assert err.splitlines()[-1].startswith("mqshm")


def test_a_broker_that_is_not_there_is_made(name, place):
    process = subprocess.Popen(
        [sys.executable, "-m", "mqshm", "worker", name, "a", "handlers:seen"], cwd=place, stderr=subprocess.PIPE
    )
    until(lambda: name in mqshm.list_brokers(), "the broker")
    process.terminate()
    process.communicate(timeout=20)
