import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import mqshm
from mqshm import AckPolicy, Config, Thresholds
from tests.conftest import until

NOW = Thresholds(waits_alone=0.0, waits=0.0)


def codes(broker, thresholds=None):
    return {reason.code: reason for reason in broker.health_check(thresholds).reasons}


def holder(name, ready, group="g"):
    """Receives one message and keeps it."""
    with mqshm.connect(name, supervisor=False) as broker:
        held = broker.subscribe("a", group=group).receive(timeout=20)
        assert held is not None
        ready.set()
        while True:
            signal.pause()


def end(child, broker):
    child.kill()
    child.join()
    broker.fsck(repair=True)


@pytest.fixture
def ready():
    import multiprocessing

    return multiprocessing.get_context("spawn").Event()


# ---- facts


def test_a_fresh_broker_is_healthy(broker):
    seen = broker.health_check()
    assert (seen.status, seen.reasons, seen.name) == ("healthy", (), broker.name)
    assert (seen.topics, seen.subscriptions, seen.waiting, seen.errors, seen.panics) == (0, 0, 0, 0, 0)
    assert 0 <= seen.uptime < 20
    assert seen.rates is None
    assert [each.pid for each in seen.processes] == [os.getpid()]


def test_depth_and_age_are_told_by_group_and_priority(broker):
    sub = broker.subscribe("a", group="g")
    broker.subscribe("a", group="later")
    broker.publish("a", b"1", priority=40)
    first = sub.receive_nowait()
    broker.publish_batch("a", [b"2", b"3"])
    broker.publish("a", b"4", priority=0, delay=60)
    until(lambda: broker.health_check().groups["g"].oldest_by_priority.get(20, 0) > 0.02)
    broker.publish("a", b"5", priority=0)
    g = broker.health_check().groups["g"]
    assert (g.waiting, g.in_flight, g.delayed, g.used, g.estimated) == (3, 1, 1, 5, False)
    assert g.waiting_by_priority == {40: 0, 30: 0, 20: 2, 10: 0, 0: 1}
    assert set(g.oldest_by_priority) == {20, 0}
    assert g.oldest == g.oldest_by_priority[20] > g.oldest_by_priority[0] >= 0
    later = broker.health_check().groups["later"]
    assert set(later.oldest_by_priority) == {40, 20, 0}
    assert later.oldest == later.oldest_by_priority[40]
    first.nack(delay=0)
    again = broker.health_check().groups["g"]
    assert (again.waiting, again.in_flight) == (4, 0)
    assert again.oldest == again.oldest_by_priority[40]


def test_a_payload_of_its_own_has_an_age_too(broker):
    broker.create_group("g", "a")
    broker.publish("a", b"x" * 100_000)
    until(lambda: (broker.health_check().groups["g"].oldest or 0) > 0.02)
    assert broker.health_check().groups["g"].oldest < 20


def test_what_is_in_a_large_subscription_is_estimated_from_rings_and_counters(broker):
    sub = broker.subscribe("a", group="g", buffer_size=120_000)
    for _ in range(110):
        broker.publish_batch("a", [b"x"] * 1000)
    held = sub.receive_batch(700)
    broker.publish_batch("a", [b"y"] * 300)
    g = broker.health_check().groups["g"]
    assert (g.estimated, g.waiting, g.in_flight, g.used) == (True, 109_600, 700, 110_300)
    assert g.waiting_by_priority[20] == 109_600
    assert broker.health_check().processes[0].leases in range(350, 1400)  # by a share of the slots
    assert sub.ack_batch(held) == 700


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_new"])
def test_what_was_dropped_is_not_taken_for_what_is_there(broker, overflow):
    sub = broker.subscribe("a", group="g", buffer_size=40_000, overflow=overflow)
    for _ in range(41):
        broker.publish_batch("a", [b"x"] * 1000)
    held = sub.receive_batch(600)
    assert sub.ack_batch(held[:500]) == 500
    g = broker.health_check().groups["g"]
    assert (g.estimated, g.dropped, g.waiting, g.in_flight) == (True, 1000, 39_400, 100)
    assert sub.ack_batch(held[500:]) == 100


def test_what_is_leased_and_lent_is_told_by_process(broker, run, ready):
    broker.create_group("g", "a")
    broker.publish("a", b"x")
    child = run(holder, broker.name, ready)
    assert ready.wait(20)
    sub = broker.subscribe("b", group="b")
    broker.publish_batch("b", [b"x"] * 3)
    held = sub.receive_batch(3)
    loan = broker.loan("b", nbytes=100)
    seen = {each.pid: each for each in broker.health_check().processes}
    assert (seen[os.getpid()].leases, seen[os.getpid()].loans, seen[child.pid].leases) == (3, 1, 1)
    me = seen[os.getpid()]
    assert me.rss > 1 << 20
    assert me.threads >= 1
    assert me.open_files >= 3
    assert (me.role, me.state) != ("user", "dead")
    assert time.time() - me.attached_at < 60
    loan.discard()
    sub.ack_batch(held)
    with broker.loan("b", nbytes=100):
        pass
    assert [each.loans for each in broker.health_check().processes if each.pid == os.getpid()] == [0]
    end(child, broker)


def test_what_a_killed_process_had_on_loan_is_not_its_successors(broker, run, ready):
    broker.create_group("g", "a")
    broker.publish("a", b"x")
    child = run(lender, broker.name, ready)
    assert ready.wait(20)
    assert {each.pid: each.loans for each in broker.health_check().processes}[child.pid] == 2
    end(child, broker)
    ready.clear()
    child = run(holder, broker.name, ready)
    assert ready.wait(20)
    assert {each.pid: each.loans for each in broker.health_check().processes}[child.pid] == 0
    end(child, broker)


def lender(name, ready):
    with mqshm.connect(name, supervisor=False) as broker:
        loans = [broker.loan("b", nbytes=100) for _ in range(2)]
        ready.set()
        while loans:
            signal.pause()


def test_cpu_is_what_was_used_since_the_look_before(broker):
    broker.health_check()
    ends = time.process_time() + 0.1
    while time.process_time() < ends:
        pass
    assert broker.health_check().processes[0].cpu > 0


def test_rates_are_those_since_the_look_before(broker):
    sub = broker.subscribe("a", group="g", buffer_size=5000)
    broker.publish_batch("a", [b"x"] * 500)
    assert broker.health_check().rates is None
    broker.publish_batch("a", [b"x"] * 1000)
    for message in sub.receive_batch(200):
        message.ack()
    seen = until(lambda: (now := broker.health_check()).rates and now, "two looks")
    for rates in (seen.rates, seen.groups["g"].rates):
        assert round(rates.published * rates.seconds) == 1000
        assert round(rates.delivered * rates.seconds) == round(rates.settled * rates.seconds) == 200


def test_a_subscription_on_a_row_that_was_used_before_starts_from_nothing(broker):
    broker.create_group("one", "a")
    broker.publish_batch("a", [b"x"] * 50)
    broker.health_check()
    broker.delete_group("one")
    broker.create_group("two", "b", buffer_size=77)
    broker.publish_batch("b", [b"x"] * 3)
    two = broker.health_check().groups["two"]
    assert (two.patterns, two.buffer_size, two.waiting) == (("b",), 77, 3)
    two = until(lambda: (now := broker.health_check()).rates and now, "two looks").groups["two"]
    assert round(two.rates.published * two.rates.seconds) == 3


def test_memory_is_what_the_kernel_says(broker):
    broker.create_group("g", "a", buffer_size=10_000)
    for size in (10, 1000, 100_000, 1_000_000):
        broker.publish_batch("a", [b"x" * size] * 10)
        seen = broker.health_check()
        path = os.stat(f"/dev/shm/mqshm.{broker.name}")
        assert seen.memory_usage == path.st_blocks * 512
        assert seen.memory_counted == broker.memory_usage == seen.memory_usage


def test_a_look_takes_no_memory_of_the_broker(broker):
    for number in range(200):
        broker.create_group(f"g{number}", f"a.{number}", buffer_size=1)
    broker.publish("a.1", b"x")
    with_one = subprocess.run(
        [sys.executable, "-c", "import mqshm, sys\n"
         "with mqshm.connect(sys.argv[1], supervisor=False) as broker:\n"
         "    was = broker.memory_usage\n"
         "    for _ in range(3): seen = broker.health_check()\n"
         "    print(seen.subscriptions, broker.memory_usage - was)", broker.name],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert with_one.stdout.split() == ["200", "0"]


def test_looking_from_several_threads_at_once_gives_whole_answers(broker):
    broker.create_group("g", "a", buffer_size=100_000)
    seen = []

    def look():
        for _ in range(50):
            seen.append(broker.health_check().groups["g"])

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        broker.publish_batch("a", [b"x"] * 10)
    for thread in threads:
        thread.join()
    assert len(seen) == 150
    assert all(0 <= each.waiting <= 3000 and each.waiting <= each.used + 64 for each in seen)
    assert broker.health_check().groups["g"].waiting == 3000


# ---- reasons, each with its fault injected


def test_memory_past_its_high_water_mark_is_told_until_it_is_well_below(broker):
    broker.create_group("g", "a", buffer_size=20_000)
    broker.publish_batch("a", [b"x" * 1000] * 5000)
    used = broker.health_check().memory_usage

    def high(share):
        broker.update_config(max_memory_usage=int(used / share))
        with mqshm.connect(broker.name) as other:  # who looks for the first time sees the same
            told = "memory_high" in codes(other)
        assert ("memory_high" in codes(broker)) == told
        return told

    assert [high(share) for share in (0.75, 0.85, 0.75, 0.65, 0.75, 0.82)] == [False, True, True, False, False, True]
    broker.update_config(max_memory_usage=0)
    assert broker.health_check().status == "healthy"


def test_publishers_that_wait_for_memory_make_it_unhealthy(name):
    with mqshm.connect(name, config=Config(max_memory_usage=8 << 20)) as broker:
        broker.create_group("g", "a", buffer_size=100_000)
        with pytest.raises(mqshm.MemoryLimitExceeded):
            while True:
                broker.publish("a", b"x" * 100_000, timeout=0)
        seen = broker.health_check()
        assert seen.troubles["memory"].count == seen.errors == 1
        assert seen.troubles["memory"].pid == os.getpid()
        assert "errors" in codes(broker)
        waits = threading.Thread(target=broker.publish, args=("a", b"x" * 100_000))
        waits.start()
        try:
            reason = until(lambda: codes(broker).get("memory_exhausted"), "the reason")
            assert (reason.severity, broker.health_check().status) == ("unhealthy", "unhealthy")
            assert "max_memory_usage" in reason.advice
        finally:
            broker.purge("g")
            waits.join(20)
        until(lambda: "memory_exhausted" not in codes(broker), "recovery")
        assert "errors" not in codes(broker, Thresholds(late=-10.0))


def test_a_full_group_without_a_consumer_is_unhealthy_and_with_one_degraded(broker):
    broker.create_group("g", "a", buffer_size=4)
    broker.publish_batch("a", [b"x"] * 4)
    reason = codes(broker)["queue_full"]
    assert (reason.severity, reason.subject) == ("unhealthy", "g")
    sub = broker.subscribe("a", group="g")
    assert codes(broker)["queue_full"].severity == "degraded"
    sub.receive_nowait().ack()
    assert broker.health_check().status == "healthy"


def test_who_waits_for_room_is_counted(broker):
    sub = broker.subscribe("a", group="g", buffer_size=4)
    broker.publish_batch("a", [b"x"] * 4)
    waits = threading.Thread(target=broker.publish, args=("a", b"x"))
    waits.start()
    try:
        until(lambda: broker.health_check().groups["g"].publishers_waiting == 1, "the publisher")
        assert "1 process waits to publish" in codes(broker)["queue_full"].text
    finally:
        sub.receive_nowait().ack()
        waits.join(20)


def test_a_full_subscription_that_drops_is_as_it_was_meant(broker):
    broker.subscribe("a", group="g", buffer_size=4, overflow="drop_oldest")
    broker.publish_batch("a", [b"x"] * 4)
    assert broker.health_check().status == "healthy"
    broker.publish_batch("a", [b"x"] * 3)
    assert "3 messages" in codes(broker)["dropped"].text
    assert "3 messages" in codes(broker)["dropped"].text  # a while longer than one look
    assert "dropped" not in codes(broker, Thresholds(late=0.0))


def test_messages_that_nobody_receives_are_told_after_a_while(broker):
    broker.create_group("g", "a")
    broker.publish("a", b"x")
    assert broker.health_check().status == "healthy"
    reason = until(lambda: codes(broker, NOW).get("no_consumers"), "the reason")
    assert reason.subject == "g"
    with broker.subscribe("a", group="g") as sub:
        assert set(codes(broker, NOW)) == {"backlog_old"}
        sub.receive_nowait().ack()
        assert not codes(broker, NOW)


def test_messages_that_are_given_up_are_told(broker):
    sub = broker.subscribe("a", group="g", max_attempts=1, backoff=(0.0, 0.0))
    broker.health_check()
    broker.publish_batch("a", [b"x"] * 2)
    sub.receive_nowait().reject("no")
    assert "1 message " in codes(broker)["given_up"].text
    sub.receive_nowait().nack()
    assert sub.receive_nowait() is None
    assert "2 messages" in codes(broker)["given_up"].text


def test_dead_letters_are_counted_and_wait_for_people(name):
    with mqshm.connect(name, config=Config(dead_letter_topic="dlq")) as broker:
        sub = broker.subscribe("a", group="g")
        broker.health_check()
        broker.publish("a", b"x")
        sub.receive_nowait().reject("no")
        seen = until(lambda: (now := broker.health_check(NOW)).dead_letters == 1 and now, "the dead letter")
        assert [reason.code for reason in seen.reasons] == ["given_up"]


def test_many_redeliveries_are_told(broker):
    sub = broker.subscribe("a", group="g", max_attempts=0, backoff=(0.0, 0.0))
    broker.publish("a", b"x")
    broker.health_check()
    for _ in range(30):
        sub.receive_nowait().nack()
    assert until(lambda: codes(broker).get("redelivered"), "the reason").subject == "g"
    sub.receive_nowait().ack()


def test_a_lease_that_was_over_is_told(broker):
    sub = broker.subscribe("a", group="g", ack=AckPolicy.TIMEOUT, ack_timeout=0.02, backoff=(0.0, 0.0))
    broker.publish("a", b"x")
    first = sub.receive_nowait()
    second = until(sub.receive_nowait, "the redelivery")
    with pytest.raises(mqshm.LeaseLost):
        first.ack()
    assert codes(broker)["leases_lost"].subject == f"pid {os.getpid()}"
    del second


def test_a_handler_that_raises_is_told_and_its_message_comes_again(broker):
    sub = broker.subscribe("a", group="g", backoff=(0.0, 0.0))
    broker.publish("a", b"x")
    with pytest.raises(RuntimeError), sub.receive_nowait():
        raise RuntimeError("mine")
    assert broker.health_check().panics == 1
    assert "1 time so far" in codes(broker)["panics"].text
    with pytest.raises(KeyboardInterrupt), sub.receive_nowait():  # Ctrl-C is nobody's fault
        raise KeyboardInterrupt
    assert broker.health_check().panics == 1
    with sub.receive_nowait():
        pass
    assert not codes(broker, Thresholds(late=-10.0))


def test_what_a_process_that_has_ended_met_is_still_known(broker, run, ready):
    script = (
        "import mqshm, sys\n"
        "with mqshm.connect(sys.argv[1], supervisor=False) as broker:\n"
        "    broker.publish('a', b'x')\n"
        "    with broker.subscribe('b', group='g') as sub:\n"
        "        broker.publish('b', b'x')\n"
        "        try:\n"
        "            with sub.receive_nowait(): raise ValueError\n"
        "        except ValueError: pass\n"
    )
    subprocess.run([sys.executable, "-c", script, broker.name], timeout=60, check=True)
    reason = codes(broker)["panics"]
    assert (reason.subject, broker.health_check().troubles["panic"].pid) == (None, None)
    until(lambda: time.time() > broker.health_check().troubles["panic"].last_at + 1.1, "the next second")
    broker.create_group("h", "a")
    broker.publish("a", b"x")
    broker.delete_group("g")
    child = run(holder, broker.name, ready, "h")  # on the row of the one that has ended
    assert ready.wait(20)
    assert [each.pid for each in broker.health_check().processes] == [os.getpid(), child.pid]
    assert broker.health_check().troubles["panic"].pid is None
    end(child, broker)


def test_a_limit_that_is_near_is_told(name):
    with mqshm.connect(name, config=Config(max_topics=10, max_subscribers=1)) as broker:
        for number in range(8):
            broker.publish(f"t.{number}", b"x")
        assert broker.health_check().status == "healthy"
        broker.publish("t.8", b"x")
        reason = codes(broker)["limit_near"]
        assert (reason.subject, "max_topics" in reason.advice) == ("topics", True)
        broker.publish("t.9", b"x")
        with pytest.raises(mqshm.LimitExceeded):
            broker.publish("t.10", b"x")
        assert "errors" in codes(broker)
        broker.create_group("one", "t")
        with pytest.raises(mqshm.LimitExceeded):
            broker.create_group("two", "t")
        with pytest.raises(mqshm.GroupNotFound):  # a mistake of the caller's
            broker.delete_group("none")
        assert broker.health_check().troubles["other"].count == broker.health_check().errors == 2


def test_a_process_that_was_killed_is_told_until_somebody_has_cleaned_up(broker, run, ready):
    broker.create_group("g", "a", ack=AckPolicy.REQUIRED)
    broker.publish("a", b"x")
    child = run(holder, broker.name, ready)
    assert ready.wait(20)
    assert broker.health_check().groups["g"].consumers == 1
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    seen = broker.health_check()
    assert seen.groups["g"].consumers == 0
    reason = codes(broker)["process_dead"]
    assert (reason.subject, "holds 1 message" in reason.text) == (f"pid {child.pid}", True)
    broker.fsck(repair=True)
    sub = broker.subscribe("a", group="g")
    assert until(sub.receive_nowait, "the message").attempt == 2
    assert "process_dead" not in codes(broker)


def test_a_process_that_is_stopped_and_holds_messages_is_told(broker, run, ready):
    broker.create_group("g", "a")
    broker.publish("a", b"x")
    child = run(holder, broker.name, ready)
    assert ready.wait(20)
    os.kill(child.pid, signal.SIGSTOP)
    try:
        reason = until(lambda: codes(broker).get("process_stopped"), "the reason")
        assert (reason.subject, f"kill -CONT {child.pid}" in reason.advice) == (f"pid {child.pid}", True)
    finally:
        os.kill(child.pid, signal.SIGCONT)
    until(lambda: "process_stopped" not in codes(broker), "its going on")
    end(child, broker)


def test_damage_makes_it_unhealthy_and_the_rest_is_still_told(name):
    with mqshm.connect(name) as broker:
        broker.create_group("broken", "a")
        broker.create_group("whole", "b")
        broker.publish("b", b"x")
        write(name, SUBS_AT + CELLS_AT, b"\3\0\0\0")
        seen = broker.health_check()
        assert (seen.status, seen.reasons[0].code) == ("unhealthy", "damaged")
        assert "subscription 0" in seen.damage
        assert seen.groups["whole"].waiting == 1
        write(name, SUBS_AT + CELLS_AT, (1024).to_bytes(4, "little"))
        assert broker.health_check().status == "healthy"


SUBS_AT, CELLS_AT = 160, 24  # where the header says where the table of subscriptions is; a row's cells (csrc/layout.h)


def write(name, at, data):
    """By another process: closing the file would drop this one's lock on it. `at` is an offset that is followed."""
    script = (
        "import sys\n"
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    file.seek(int(sys.argv[2])); table = int.from_bytes(file.read(8), 'little')\n"
        "    file.seek(table + int(sys.argv[3])); file.write(bytes.fromhex(sys.argv[4]))\n"
    )
    where = [f"/dev/shm/mqshm.{name}", str(SUBS_AT), str(at - SUBS_AT), data.hex()]
    subprocess.run([sys.executable, "-c", script, *where], timeout=60, check=True)
