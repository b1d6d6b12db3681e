import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import mqshm
from tests.conftest import until


def descriptors(name):
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(link).startswith(f"/dev/shm/mqshm.{name}"):
                found.append(link.name)
        except FileNotFoundError:
            pass
    return found


def test_a_broker_is_made_listed_and_removed(name):
    with mqshm.connect(name):
        assert name in mqshm.list_brokers()
        assert os.stat(f"/dev/shm/mqshm.{name}").st_mode & 0o777 == 0o600
    assert name in mqshm.list_brokers()
    mqshm.destroy(name)
    assert name not in mqshm.list_brokers()
    with pytest.raises(mqshm.BrokerNotFound):
        mqshm.destroy(name)


def test_a_broker_that_is_not_there_is_not_made_unasked(name):
    with pytest.raises(mqshm.BrokerNotFound, match=name):
        mqshm.connect(name, create=False)
    assert name not in mqshm.list_brokers()


def test_messages_outlive_the_connection(name):
    with mqshm.connect(name) as broker:
        broker.create_group("g", "a")
        broker.publish("a", b"x")
    with mqshm.connect(name, create=False) as broker:
        broker.subscribe("a", group="g").receive(timeout=1.0).ack()


@pytest.mark.parametrize("bad", ["", "a/b", "ä", "x" * 201, "a b", "x.tmp", "a\0"])
def test_a_bad_name_is_refused(bad):
    with pytest.raises(mqshm.InvalidConfig):
        mqshm.connect(bad)
    with pytest.raises(mqshm.InvalidConfig):
        mqshm.destroy(bad)


def test_a_mode_can_be_asked_for(name):
    with mqshm.connect(name, mode=0o660):
        assert os.stat(f"/dev/shm/mqshm.{name}").st_mode & 0o777 == 0o660


def test_a_process_opens_a_broker_once(name):
    brokers = [mqshm.connect(name) for _ in range(5)]
    assert len(descriptors(name)) == 1
    for broker in brokers[1:]:
        broker.close()
    assert len(descriptors(name)) == 1
    assert brokers[0].stats().peers[0].alive
    brokers[0].close()
    assert descriptors(name) == []


def test_closing_one_of_several_leaves_the_others(name):
    one, two = mqshm.connect(name), mqshm.connect(name)
    sub = two.subscribe("a")
    gone = one.subscribe("a", group="g")
    one.publish("a", b"x")
    held = gone.receive_nowait()
    one.close()
    assert sub.receive_nowait().data == b"x"
    with pytest.raises(mqshm.BrokerClosed):
        one.publish("a", b"y")
    del held
    gc.collect()
    assert two.subscribe("a", group="g").receive(timeout=5.0).data == b"x"
    two.close()


def test_close_is_idempotent_and_final(name):
    broker = mqshm.connect(name)
    sub = broker.subscribe("a")
    broker.close()
    broker.close()
    sub.close()
    assert broker.closed
    assert sub.closed
    for use in (
        lambda: broker.publish("a", b""),
        lambda: broker.publish("a", b"", ttl=1),
        lambda: broker.publish_batch("a", [b""]),
        lambda: broker.subscribe("a"),
        broker.stats,
        lambda: broker.config,
        lambda: broker.loan("a", nbytes=1),
        lambda: broker.ack("a", "b"),
    ):
        with pytest.raises(mqshm.BrokerClosed):
            use()
    with pytest.raises((mqshm.BrokerClosed, mqshm.SubscriptionClosed)):
        sub.receive_nowait()


def test_close_gives_back_what_is_held(name):
    with mqshm.connect(name) as broker:
        broker.create_group("g", "a")
        broker.publish("a", b"x")
        held = broker.subscribe("a", group="g").receive_nowait()
    with pytest.raises(mqshm.BrokerClosed):
        held.ack()
    with mqshm.connect(name) as broker:
        broker.subscribe("a", group="g").receive(timeout=5.0).ack()
        assert broker.fsck().clean


def test_close_ends_a_receive_that_waits(name):
    broker = mqshm.connect(name)
    sub = broker.subscribe("a")
    raised = []

    def wait():
        try:
            sub.receive()
        except mqshm.MQError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: broker.stats().private[0].consumers, "a consumer that waits")
    broker.close()
    thread.join(5.0)
    assert not thread.is_alive()
    assert isinstance(raised[0], (mqshm.BrokerClosed, mqshm.SubscriptionClosed))


def test_a_subscription_that_is_dropped_ends(broker):
    sub = broker.subscribe("a")
    assert len(broker.stats().private) == 1
    del sub
    gc.collect()
    assert until(lambda: broker.stats().private == (), "the end of the subscription")


def test_a_broker_that_is_dropped_is_left(name):
    broker = mqshm.connect(name)
    del broker
    gc.collect()
    assert descriptors(name) == []


def test_a_view_outlives_message_and_broker(name):
    broker = mqshm.connect(name)
    sub = broker.subscribe("a", group="g")
    broker.publish("a", b"x" * 100_000)
    message = sub.receive_nowait()
    view = message.view
    message.ack()
    broker.close()
    del message, sub, broker
    gc.collect()
    assert bytes(view) == b"x" * 100_000
    assert len(descriptors(name)) == 1
    del view
    gc.collect()
    assert descriptors(name) == []


def test_what_a_killed_maker_left_is_removed(name):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = Path(f"/dev/shm/mqshm.{name}.{int(dead.stdout)}.0.tmp")
    mine = Path(f"/dev/shm/mqshm.{name}.{os.getpid()}.999.tmp")
    left.touch()
    mine.touch()
    assert not [each for each in mqshm.list_brokers() if each.startswith(name)]
    assert not left.exists()
    assert mine.exists()
    mine.unlink()


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(1 << 20)])
def test_a_file_that_is_no_broker_is_refused(name, content):
    Path(f"/dev/shm/mqshm.{name}").write_bytes(content)
    with pytest.raises((mqshm.VersionMismatch, mqshm.SegmentCorrupt), match=name):
        mqshm.connect(name)


def test_many_that_make_one_broker_at_once_get_the_same(name):
    brokers, errors = [], []
    barrier = threading.Barrier(8)

    def make():
        barrier.wait()
        try:
            brokers.append(mqshm.connect(name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    sub = brokers[0].subscribe("a")
    for broker in brokers:
        broker.publish("a", b"x")
    assert len(sub.receive_batch(99, timeout=0)) == 8
    for broker in brokers:
        broker.close()
