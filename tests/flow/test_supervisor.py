"""The process that watches: started, elected, killed, stopped, gone with its last user."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

import mqshm
from mqshm import segment, starting
from mqshm._native import lib
from mqshm.supervisor import watch
from tests.conftest import until

RECEIVE = 20.0


def supervisors(name):
    """Processes, also those that are only starting, or were not elected."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if name.encode() in words and any(word.endswith(b"supervisor/__main__.py") for word in words):
            found.append(int(path.parent.name))
    return found


def elected(broker):
    """The pid of the supervisor that is there now, or None."""
    return lib.mqshm_supervised(broker._attachment.handle) or None


def gone(pid):
    """Or a zombie: pid 1 takes its time where it is no real init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def name(name, monkeypatch):
    monkeypatch.setenv("MQSHM_SUPERVISOR", "1")
    yield name
    for pid in supervisors(name):
        os.kill(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)
    until(lambda: not supervisors(name), "the end of the supervisors")


@pytest.fixture
def broker(name):
    with mqshm.connect(name) as broker:
        yield broker
        if not broker.closed:
            assert broker.fsck().clean


@pytest.mark.parametrize("environment", [None, "1"])
def test_connect_returns_with_a_supervisor(name, environment, monkeypatch):
    if environment is None:
        monkeypatch.delenv("MQSHM_SUPERVISOR")
    with mqshm.connect(name) as broker:
        assert [elected(broker)] == supervisors(name)


def test_a_supervisor_is_nobodys_child_and_inherits_nothing(name, tmp_path):
    with (tmp_path / "open").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)
        with mqshm.connect(name) as broker:
            _is_on_its_own(broker, elected(broker))


def _is_on_its_own(broker, pid):
    assert [pid] == supervisors(broker.name)
    parent, group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:4]
    assert int(parent) != os.getpid()
    assert os.getsid(0) not in (int(group), int(session))
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
    others = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert {each for each in others if each.startswith("/")} == {"/dev/null", f"/dev/shm/mqshm.{broker.name}"}


def test_signals_that_the_user_ignores_or_blocks_are_not_the_supervisors(name):
    previous = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with mqshm.connect(name) as broker:
            status = Path(f"/proc/{elected(broker)}/status").read_text()
            masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
            assert int(masks["SigBlk"], 16) == 0
            assert not int(masks["SigIgn"], 16) >> (signal.SIGUSR1 - 1) & 1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("environment", [None, "0", "False"])
def test_a_user_that_wants_none_starts_none(name, environment, monkeypatch):
    if environment is not None:
        monkeypatch.setenv("MQSHM_SUPERVISOR", environment)
    with mqshm.connect(name, supervisor=False if environment is None else None) as broker:
        assert broker.subscribe("a").receive(timeout=0.6) is None
        assert supervisors(name) == []
        assert name in mqshm.list_brokers()


def test_what_is_neither_yes_nor_no_is_refused(name):
    with pytest.raises(mqshm.InvalidConfig, match="supervisor"):
        mqshm.connect(name, supervisor="yes")


def attach_and_wait(name, go):
    while not os.path.exists(go):
        time.sleep(0.001)
    with mqshm.connect(name) as broker:
        broker.subscribe("end").receive(timeout=RECEIVE)


def test_many_that_start_at_once_get_exactly_one(name, run, tmp_path):
    go = tmp_path / "go"
    children = [run(attach_and_wait, name, str(go)) for _ in range(6)]
    go.touch()
    with mqshm.connect(name) as broker:
        until(lambda: len(broker.stats().private) == len(children), "the subscribers")
        pid = until(lambda: elected(broker), "a supervisor")
        until(lambda: supervisors(name) == [pid], "the end of those that were not elected")
        broker.publish("end", b"")
        for child in children:
            child.join(RECEIVE)
        assert elected(broker) == pid


def receive_all(broker):
    with broker, broker.subscribe("a", group="g") as sub:
        while (message := sub.receive(timeout=RECEIVE)).data != b"end":
            message.ack()
        message.ack()


def publish_until(broker, until_file):
    n = 0
    with broker:
        while not os.path.exists(until_file):
            broker.publish("a", str(n))
            n += 1


def kill(broker):
    """The supervisor; the pid that was its."""
    pid = elected(broker)
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid), "the death of the supervisor")
    return pid


def test_a_user_that_waits_brings_a_new_one_when_it_is_killed(broker):
    sub = broker.subscribe("a")
    for _ in range(3):
        killed = kill(broker)
        until(lambda: sub.receive(timeout=0.1) or elected(broker), "the next supervisor")
        assert elected(broker) != killed
    until(lambda: len(supervisors(broker.name)) == 1)


def test_a_user_that_waits_for_room_brings_a_new_one(broker):
    broker.create_group("g", "a", buffer_size=1)
    broker.publish("a", b"")
    kill(broker)
    with pytest.raises(mqshm.QueueFull):
        broker.publish("a", b"", timeout=1.0)
    assert until(lambda: elected(broker))


def test_a_publisher_that_never_waits_brings_a_new_one(broker):
    kill(broker)

    def published():
        broker.publish("a", b"")
        return elected(broker)

    until(published, "the next supervisor")


def test_a_consumer_that_never_waits_brings_a_new_one(broker):
    broker.create_group("g", "a", buffer_size=10_000)
    with broker.subscribe("a", group="g") as sub:
        broker.publish_batch("a", [b""] * 10_000)
        kill(broker)

        def received():
            for _ in range(10):
                sub.receive_nowait().ack()
            return elected(broker)

        until(received, "the next supervisor")


def test_a_user_that_wants_none_does_not_bring_one_back(name):
    with mqshm.connect(name, supervisor=False) as broker:
        started = subprocess.Popen([sys.executable, starting._PROGRAM, name])
        until(lambda: elected(broker) == started.pid, "the supervisor")
        started.kill()
        started.wait()
        assert elected(broker) is None
        assert broker.subscribe("a").receive(timeout=1.0) is None
        assert supervisors(name) == []


def test_nothing_is_lost_nor_held_up_while_the_supervisor_is_killed(broker, run, tmp_path):
    broker.create_group("g", "a", buffer_size=1000)
    done = tmp_path / "done"
    consumer, publisher = run(receive_all, broker), run(publish_until, broker, str(done))
    until(lambda: broker.stats().groups["g"].settled > 100, "traffic")
    for _ in range(3):
        settled = broker.stats().groups["g"].settled
        kill(broker)
        until(lambda before=settled: broker.stats().groups["g"].settled > before + 100, "traffic")
        until(lambda: elected(broker), "the next supervisor")
    done.touch()
    publisher.join(RECEIVE)
    broker.publish("a", b"end")
    consumer.join(RECEIVE)
    assert (publisher.exitcode, consumer.exitcode) == (0, 0)
    stats = broker.stats().groups["g"]
    assert (stats.published, stats.redelivered) == (stats.settled, 0)


def hold(broker):
    sub = broker.subscribe("a", group="g")
    held = sub.receive(timeout=RECEIVE)
    broker.publish("held", b"")
    time.sleep(60)
    del held


def test_a_stopped_supervisor_holds_nobody_up(broker, run):
    sub, ready = broker.subscribe("a", group="g"), broker.subscribe("held")
    stopped = elected(broker)
    os.kill(stopped, signal.SIGSTOP)
    broker.publish("a", b"x")
    victim = run(hold, broker)
    assert ready.receive(timeout=RECEIVE)
    os.kill(victim.pid, signal.SIGKILL)
    assert sub.receive(timeout=RECEIVE).attempt == 2
    with mqshm.connect(broker.name, supervisor=True) as another:
        another.publish("b", b"")
    assert supervisors(broker.name) == [stopped]
    os.kill(stopped, signal.SIGCONT)
    assert elected(broker) == stopped


def test_what_a_dead_process_held_is_given_back_while_nobody_waits(broker, run):
    broker.create_group("g", "a")
    ready = broker.subscribe("held")
    broker.publish("a", b"x")
    victim = run(hold, broker)
    assert ready.receive(timeout=RECEIVE)
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: broker.stats().groups["g"].waiting == 1, "the message")
    until(lambda: all(peer.pid != victim.pid for peer in broker.stats().peers), "the end of the dead peer")


def test_it_hears_of_who_comes_and_who_dies_without_looking_around(name, run, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "_LOOK", 1000.0)
    monkeypatch.setattr(watch, "_LOOK_WITHOUT_PIDFD", 1000.0)
    go = tmp_path / "go"
    go.touch()
    attachment = segment.attach(name, True, mqshm.Config(), 0o600, lib.MQSHM_SUPERVISOR)
    over = []
    with attachment.use() as handle:
        assert lib.mqshm_supervise(handle) == lib.MQSHM_OK
        watching = watch.Watch(handle, name, lambda: bool(over))
        thread = threading.Thread(target=watching.run)
        thread.start()
        try:
            child = run(attach_and_wait, name, str(go))
            until(lambda: watching.users == 1, "the user")
            os.kill(child.pid, signal.SIGKILL)
            until(lambda: watching.users == 0, "the user's death")
        finally:
            over.append(True)
            lib.mqshm_ring_bell(handle)
            thread.join()
    attachment.release()


def test_what_is_delayed_comes_due_while_nobody_waits(broker):
    broker.create_group("g", "a", buffer_size=100)
    broker.publish("a", b"x", delay=0.1)
    assert broker.stats().groups["g"].delayed == 1
    until(lambda: broker.stats().groups["g"].waiting == 1, "the message")


def test_it_ends_with_its_last_user_and_an_empty_broker_with_it(name):
    with mqshm.connect(name) as broker:
        pid = elected(broker)
        with mqshm.connect(name, supervisor=False):
            broker.subscribe("a")
            broker.publish("a", b"x")
    until(lambda: gone(pid), "the end of the supervisor")
    assert name not in mqshm.list_brokers()


def test_a_broker_with_a_group_stays_and_the_next_user_brings_its_supervisor_back(name):
    with mqshm.connect(name) as broker:
        pid = elected(broker)
        broker.create_group("g", "a")
        broker.publish("a", b"x")
    until(lambda: gone(pid), "the end of the supervisor")
    with mqshm.connect(name, create=False) as broker:
        assert elected(broker) not in (None, pid)
        assert broker.subscribe("a", group="g").receive_nowait().data == b"x"
        broker.delete_group("g")
    until(lambda: name not in mqshm.list_brokers(), "the end of the broker")


def test_it_stays_while_a_user_is_there_that_was_killed_or_not(name, run):
    with mqshm.connect(name) as broker:
        broker.create_group("g", "a")
        broker.publish("a", b"x")
        pid = elected(broker)
        ready = broker.subscribe("held")
        victim = run(hold, broker)
        assert ready.receive(timeout=RECEIVE)
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: gone(pid), "the end of the supervisor")
    with mqshm.connect(name, create=False, supervisor=False) as broker:
        assert [peer.pid for peer in broker.stats().peers] == [os.getpid()]
        assert broker.stats().groups["g"].waiting == 1


def come_and_go(name, times):
    for _ in range(times):
        with mqshm.connect(name, supervisor=False) as broker:
            sub = broker.subscribe("a")
            for _ in range(3):
                broker.publish("a", b"x")
            assert len(sub.receive_batch(10, timeout=0)) >= 3
            ours = os.fstat(broker._attachment.descriptors[0]).st_ino
            assert os.stat(f"/dev/shm/mqshm.{name}").st_ino == ours


def end_again_and_again(name, times):
    ended = 0
    while ended < times:
        attachment = segment.attach(name, True, mqshm.Config(), 0o600, lib.MQSHM_SUPERVISOR)
        with attachment.use() as handle:
            while lib.mqshm_supervise(handle) != lib.MQSHM_OK:
                pass
            if lib.mqshm_end(handle) == lib.MQSHM_OK:
                until(lambda: segment.bury(name, attachment.descriptors[0]), "the end of another who removes it")  # noqa: B023
                ended += 1
        attachment.release()


def test_nobody_who_attaches_is_left_with_a_broker_that_was_removed(name, run):
    ender = run(end_again_and_again, name, 300)
    users = [run(come_and_go, name, 300) for _ in range(3)]
    for process in (ender, *users):
        process.join(60.0)
        assert process.exitcode == 0


def end_and_die(name):
    attachment = segment.attach(name, True, mqshm.Config(), 0o600, lib.MQSHM_SUPERVISOR)
    assert lib.mqshm_end(attachment.handle) == lib.MQSHM_OK
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_name_whose_remover_died_is_removed_by_the_next_user(name, run):
    run(end_and_die, name).join()
    assert name in mqshm.list_brokers()
    with pytest.raises(mqshm.BrokerNotFound):
        mqshm.connect(name, create=False)
    assert name not in mqshm.list_brokers()
    run(end_and_die, name).join()
    with mqshm.connect(name, supervisor=False) as broker:
        sub = broker.subscribe("a")
        broker.publish("a", b"x")
        assert sub.receive_nowait().data == b"x"


def test_sigterm_ends_it_in_order_and_its_log_says_so(name, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("MQSHM_LOG", str(log))
    with mqshm.connect(name) as broker:
        pid = elected(broker)
        os.kill(pid, signal.SIGTERM)
        until(lambda: gone(pid), "the end of the supervisor")
        events = [json.loads(line) for line in log.read_text().splitlines()]
        mine = [each for each in events if each["pid"] == pid]
        assert [each["event"] for each in mine] == ["watching", "stopped"]
        assert mine[1]["signal"] == "SIGTERM"
        assert all(each["broker"] == name for each in mine)
        assert all(peer.pid != pid for peer in broker.stats().peers)


def test_where_there_is_no_interpreter_the_user_is_told(name, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(mqshm.Timeout, match=f"mqshm up {name}"):
        mqshm.connect(name, supervisor=True)
    with pytest.warns(RuntimeWarning, match="no supervisor"), mqshm.connect(name) as broker:
        broker.publish("a", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mqshm.connect(name, supervisor=False).close()


@pytest.mark.parametrize(("program", "message"), [("/nowhere/python", "No such file"), ("/bin/false", "none came")])
def test_where_none_can_be_started_the_user_is_told(name, monkeypatch, program, message):
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(starting, "_PATIENCE", 0.1)
    with pytest.raises(mqshm.Timeout, match=message):
        mqshm.connect(name, supervisor=True)


def test_a_failure_in_its_loop_is_met_and_one_that_does_not_end_ends_it(name):
    attachment = segment.attach(name, True, mqshm.Config(), 0o600, lib.MQSHM_SUPERVISOR)
    fails = iter(range(watch._PANICS.max_restarts))

    def done():
        for _ in fails:
            raise ValueError("a mistake")
        return True

    with attachment.use() as handle:
        watching = watch.Watch(handle, name, done)
        watching.run()
        assert watching.panics == watch._PANICS.max_restarts
        with mqshm.connect(name, supervisor=False) as broker:
            assert broker.health_check().troubles["panic"].count == watching.panics
        fails = iter(range(1000))
        with pytest.raises(watch.TooManyPanics, match="a mistake"):
            watch.Watch(handle, name, done).run()
    attachment.release()


def up(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "mqshm", "up", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def events(process):
    out, err = process.communicate(timeout=RECEIVE)
    assert out == ""
    return [json.loads(line)["event"] for line in err.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_makes_a_broker_and_watches_it_until_a_signal_comes(name, number):
    process = up(name, "--memory", "64MiB")
    until(lambda: name in mqshm.list_brokers(), "the broker")
    with mqshm.connect(name, create=False) as broker:
        until(lambda: elected(broker) == process.pid, "the supervisor")
        assert broker.config.max_memory_usage == 64 << 20
        broker.create_group("g", "a")
    process.send_signal(number)
    assert events(process) == ["watching", "stopped"]
    assert process.returncode == 0
    assert name in mqshm.list_brokers()


def test_up_sets_what_its_file_and_the_environment_say_also_where_the_broker_is_there(broker, tmp_path):
    broker.update_config(max_topics=3, max_attempts=7)
    file = tmp_path / "broker.toml"
    file.write_text("max_topics = 9\nmessage_ttl = 60\n")
    process = up(broker.name, "--config", str(file), env={**os.environ, "MQSHM_MESSAGE_TTL": "2.5"})
    until(lambda: broker.config.max_topics == 9, "the configuration")
    assert (broker.config.message_ttl, broker.config.max_attempts) == (2.5, 7)
    process.send_signal(signal.SIGTERM)
    assert events(process)[0] == "watching"


def test_up_with_a_bad_file_is_one_line_on_stderr(name, tmp_path):
    file = tmp_path / "broker.toml"
    for text in ("max_topics = many", None):
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        process = up(name, "--config", str(file))
        _, err = process.communicate(timeout=RECEIVE)
        assert (process.returncode, err.count("\n")) == (1, 1)
        assert str(file) in err
    assert name not in mqshm.list_brokers()


def test_up_removes_a_broker_that_holds_nothing(name):
    process = up(name)
    until(lambda: name in mqshm.list_brokers(), "the broker")
    assert json.loads(process.stderr.readline())["event"] == "watching"
    process.send_signal(signal.SIGTERM)
    assert events(process) == ["stopped", "removed"]
    assert name not in mqshm.list_brokers()


def test_up_takes_over_from_one_that_a_user_has_started(broker):
    pid = elected(broker)
    process = up(broker.name)
    until(lambda: elected(broker) == process.pid, "the supervisor in the foreground")
    until(lambda: gone(pid), "the end of the other")
    process.send_signal(signal.SIGTERM)
    assert events(process) == ["watching", "stopped"]


def test_a_second_up_is_told_of_the_first(name):
    first = up(name)
    assert json.loads(first.stderr.readline())["event"] == "watching"
    second = up(name)
    _, err = second.communicate(timeout=RECEIVE)
    assert second.returncode == 1
    assert err == f"mqshm: broker {name!r} is up already: process {first.pid} watches it\n"
    first.send_signal(signal.SIGTERM)
    assert events(first)[-2:] == ["stopped", "removed"]
