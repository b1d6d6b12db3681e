"""Health and the supervisor: whether somebody watches, what the supervisor says of health, what `mqshm up` is told."""

import json
import os
import signal
import subprocess
import sys

import pytest

import mqshm
from mqshm.health import Reason
from mqshm.supervisor import checks, log
from tests.conftest import until
from tests.flow.test_cli import command


def up(*arguments, **environ):
    return subprocess.Popen(
        [sys.executable, "-m", "mqshm", "up", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ},
    )  # fmt: skip


@pytest.fixture
def started():
    processes = []
    yield processes.append
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def event(process, wanted):
    """The first of the supervisor's events for which this is true."""
    for line in process.stderr:
        found = json.loads(line)
        if wanted(found):
            return found
    raise AssertionError("the supervisor ended without saying so")


def codes(broker):
    return [reason.code for reason in broker.health_check().reasons]


def test_up_takes_its_configuration_from_flags_environment_and_file(name, tmp_path, started):
    file = tmp_path / "shop.toml"
    file.write_text('max_topics = 1\nmax_subscribers = 2\nmax_memory_usage = "1GiB"\n')
    process = up(name, "--config", file, "--memory", "64MiB", MQSHM_MAX_SUBSCRIBERS="3", MQSHM_MAX_MEMORY_USAGE="2GiB")
    started(process)
    event(process, lambda each: each["event"] == "watching")
    with mqshm.connect(name, create=False) as broker:
        config = broker.config
    assert (config.max_topics, config.max_subscribers, config.max_memory_usage) == (1, 3, 64 << 20)


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["--memory", "lots"], {}, "command line: max_memory_usage = 'lots'"),
        (["--config", "/no/such.toml"], {}, "/no/such.toml: No such file"),
        ([], {"MQSHM_OVERFLOW": "x"}, "environment variable MQSHM_OVERFLOW: overflow = 'x'"),
    ],
)
def test_what_up_cannot_take_is_one_line_and_makes_nothing(name, arguments, environ, says):
    done = command("up", name, *arguments, env={**os.environ, **environ})
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"mqshm: {says}")
    assert name not in mqshm.list_brokers()


def test_a_supervisor_that_is_gone_is_told_until_there_is_one_again(name, started):
    process = up(name)
    started(process)
    event(process, lambda each: each["event"] == "watching")
    with mqshm.connect(name) as looker:
        seen = looker.health_check()
        assert (seen.supervisor, seen.status) == (process.pid, "healthy")
        assert {each.pid: each.role for each in seen.processes}[process.pid] == "supervisor"
        other = subprocess.Popen(
            [sys.executable, "-c", "import mqshm, sys; b = mqshm.connect(sys.argv[1]); sys.stdin.read()", name],
            stdin=subprocess.PIPE,
        )
        try:
            until(lambda: len(looker.health_check().processes) == 3, "another user")
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert "unwatched" in codes(looker)
            next_one = up(name)
            started(next_one)
            until(lambda: looker.health_check().supervisor == next_one.pid, "the next supervisor")
            assert "unwatched" not in codes(looker)
            next_one.send_signal(signal.SIGSTOP)
            until(lambda: "supervisor_stopped" in codes(looker), "the reason")
            next_one.send_signal(signal.SIGCONT)
        finally:
            other.communicate(timeout=20)
        until(lambda: len(looker.health_check().processes) == 2, "the user's end")
        next_one.kill()
        next_one.wait()
        assert looker.health_check().supervisor is None
        assert "unwatched" not in codes(looker)  # for nobody but who looks, and does without


def test_a_broker_that_was_never_watched_is_well_without(broker):
    seen = broker.health_check()
    assert (seen.supervisor, seen.unwatched, seen.status) == (None, False, "healthy")


def test_the_supervisor_says_when_a_reason_comes_and_when_it_has_gone(name, started):
    process = up(name, MQSHM_HEALTH_CHECK_INTERVAL="0.05")
    started(process)
    event(process, lambda each: each["event"] == "watching")
    with mqshm.connect(name) as broker:
        broker.create_group("g", "a", buffer_size=2)
        broker.publish_batch("a", [b"x"] * 2)
        said = event(process, lambda each: each["event"] == "health")
        assert (said["code"], said["subject"], said["status"], said["level"]) == (
            "queue_full", "g", "unhealthy", "warning",
        )  # fmt: skip
        assert said["advice"]
        broker.update_config(health_check_interval=0)
        broker.delete_group("g")
        broker.update_config(health_check_interval=0.05)
        assert event(process, lambda each: each["event"] == "health again")["code"] == "queue_full"
    process.send_signal(signal.SIGTERM)
    event(process, lambda each: each["event"] == "stopped")


def test_what_has_not_changed_is_not_said_again(broker, monkeypatch):
    lines = []
    monkeypatch.setattr(log, "warning", lambda what, **fields: lines.append((what, fields["code"])))
    monkeypatch.setattr(log, "event", lambda what, **fields: lines.append((what, fields["code"])))
    broker.create_group("g", "a", buffer_size=1)
    broker.publish("a", b"x")
    known = checks.tell("shop", broker.health_check(), {})
    assert {key: type(reason) for key, reason in known.items()} == {("queue_full", "g"): Reason}
    known = checks.tell("shop", broker.health_check(), known)
    broker.purge("g")
    assert ("queue_full", "g") not in checks.tell("shop", broker.health_check(), known)
    assert lines.count(("health", "queue_full")) == lines.count(("health again", "queue_full")) == 1
