"""Times: what is over leaves its memory and is counted, whoever looks; what comes later comes at its time."""

import threading
import time

import pytest

import mqshm
from mqshm import AckPolicy, Config
from mqshm._native import lib
from tests.conftest import until

LARGE = b"x" * 10_000


def watch(broker, seconds=0.05):
    """As the supervisor does, for so long."""
    assert lib.mqshm_watch(broker._attachment.handle, int(seconds * 1e9)) in (lib.MQSHM_OK, lib.MQSHM_TIMEOUT)


def group_of(broker, name="g"):
    return broker.stats().groups[name]


def expired(broker):
    watch(broker)
    return group_of(broker).expired


@pytest.fixture
def group(broker):
    broker.create_group("g", "a", buffer_size=4)
    return "g"


@pytest.mark.parametrize("data", [b"small", LARGE])
def test_an_expired_message_leaves_its_memory_although_nobody_receives(broker, group, data):
    for _ in range(4):
        broker.publish("a", data, ttl=0.02)
    until(lambda: expired(broker) == 4)
    assert group_of(broker).waiting == 0
    report = broker.fsck()
    assert (report.slots_used, report.blocks_used) == (0, 0)
    for _ in range(4):
        broker.publish("a", data, timeout=0.0)  # the capacity has come back


def test_the_time_of_the_configuration_counts_for_all_messages(name):
    with mqshm.connect(name, config=Config(message_ttl=0.02)) as broker:
        broker.create_group("g", "a")
        broker.publish("a", b"x")
        until(lambda: expired(broker) == 1)


def test_an_expired_message_between_others_goes_alone(broker, group):
    broker.publish("a", b"first")
    broker.publish("a", b"short", ttl=0.02)
    broker.publish("a", b"last")
    until(lambda: expired(broker) == 1)
    assert group_of(broker).waiting == 2
    with broker.subscribe("a", group=group) as sub:
        assert [message.data for message in sub.receive_batch(3)] == [b"first", b"last"]
    assert broker.fsck().clean


def test_the_payload_of_an_expired_message_stays_for_who_has_it(broker):
    for name in "gh":
        broker.create_group(name, "a")
    with broker.subscribe("a", group="h") as sub:
        broker.publish("a", LARGE, ttl=0.05)
        message = sub.receive(timeout=1.0)
        until(lambda: expired(broker) == 1)
        assert message.data == LARGE
        message.ack()
    assert broker.fsck().blocks_used == 0
    assert group_of(broker, "h").expired == 0


@pytest.mark.parametrize("delay", [None, 30.0], ids=["at once", "for later"])
def test_a_message_that_was_given_back_expires_where_it_stands(broker, group, delay):
    with broker.subscribe("a", group=group) as sub:
        broker.publish("a", LARGE, ttl=0.1)
        sub.receive(timeout=1.0).nack(delay=delay or 0)
        until(lambda: expired(broker) == 1)
        assert sub.receive_nowait() is None
    assert broker.fsck().slots_used == 0


def test_a_delayed_message_that_is_over_before_goes_at_its_end(broker, group):
    broker.publish("a", b"x", ttl=0.02, delay=30.0)
    until(lambda: expired(broker) == 1)
    assert broker.fsck().slots_used == 0


def test_who_finds_no_room_makes_it_of_what_is_over(broker, group):
    for _ in range(4):
        broker.publish("a", b"short", ttl=0.02)
    broker.publish("a", b"x", timeout=10.0)
    assert group_of(broker).expired == 4


def test_a_leased_message_does_not_expire(broker, group):
    with broker.subscribe("a", group=group) as sub:
        broker.publish("a", b"x", ttl=0.05)
        message = sub.receive(timeout=1.0)
        ends = time.monotonic() + 0.1
        while time.monotonic() < ends:
            watch(broker)
        message.ack()
    assert (group_of(broker).expired, group_of(broker).settled) == (0, 1)


def test_a_purge_and_a_deletion_take_what_is_over_along(broker, group):
    broker.publish("a", b"first")
    broker.publish("a", b"short", ttl=0.02)
    until(lambda: expired(broker) == 1)
    assert broker.purge(group) == 1
    assert broker.fsck().slots_used == 0
    broker.publish("a", b"first")
    broker.publish("a", b"short", ttl=0.02)
    until(lambda: expired(broker) == 2)
    broker.delete_group(group)


def test_the_watcher_wakes_for_a_time_that_was_set_while_it_slept(name):
    with mqshm.connect(name) as broker, mqshm.connect(name) as watching:
        sub = broker.subscribe("a", group="g", ack=AckPolicy.TIMEOUT, ack_timeout=0.02)
        ends = threading.Event()

        def keep_watching():
            while not ends.is_set():
                watch(watching, 60.0)

        watcher = threading.Thread(target=keep_watching)
        watcher.start()
        try:
            for _ in range(10):
                broker.publish("a", b"x")
                lease = sub.receive(timeout=5.0)
                # Only looks: whoever receives would fire it as well.
                until(lambda: group_of(broker).waiting == 1)
                with pytest.raises(mqshm.LeaseLost):
                    lease.ack()
                sub.receive(timeout=5.0).ack()
        finally:
            ends.set()
            lib.mqshm_ring_bell(watching._attachment.handle)
            watcher.join()
        sub.close()


def test_the_bell_ends_a_watch(broker):
    handle = broker._attachment.handle
    assert lib.mqshm_watch(handle, 0) in (lib.MQSHM_OK, lib.MQSHM_TIMEOUT)
    ringer = threading.Timer(0.05, lib.mqshm_ring_bell, [handle])
    ringer.start()
    assert lib.mqshm_watch(handle, int(60e9)) == lib.MQSHM_OK
    ringer.join()
    lib.mqshm_ring_bell(handle)  # also one that was rung before
    assert lib.mqshm_watch(handle, int(60e9)) == lib.MQSHM_OK
    assert lib.mqshm_watch(handle, 1_000_000) == lib.MQSHM_TIMEOUT
