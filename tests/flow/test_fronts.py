"""What the C front and the one over cffi have in common: the same verbs, the same objects, nothing leaked."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from importlib import import_module

import pytest

import mqshm
from mqshm import AckPolicy, _native
from tests.conftest import until

SMALL = b"small"
LARGE = os.urandom(100_000)  # past what any policy copies at receive


@pytest.fixture(params=["_fast", "_plain"])
def front(request, monkeypatch):
    try:
        import_module(f"mqshm.{request.param}")
    except ModuleNotFoundError:
        pytest.skip("the C front was not built")
    monkeypatch.setattr(_native, "_front", None)
    monkeypatch.setenv("MQSHM_FRONT", "0" if request.param == "_plain" else "1")
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)  # both are registered for these tests: see in_child
    return _native.front()


@pytest.fixture
def broker(front, broker):
    assert broker._front_module is front
    return broker


@pytest.fixture
def group(broker):
    return broker.subscribe("g", group="g", backoff=(0.0, 0.0))


def waiting(broker):
    return sum(each.waiting for each in broker.stats().groups.values())


def in_use(broker):
    return broker.fsck().slots_used


def in_child(front, function):
    """Runs in a forked child; returns what it returned, which is bytes."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            front.forked()
            os.write(write, function())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return told


@pytest.mark.parametrize("data", [b"", b"x", "höi", bytearray(b"abc"), memoryview(b"abcdef"), LARGE])
def test_a_payload_arrives_as_its_bytes(broker, data):
    sub = broker.subscribe("t")
    first = broker.publish("t", data)
    assert list(broker.publish_batch("t", [data, data])) == [first + 1, first + 2]
    expected = data.encode() if isinstance(data, str) else bytes(data)
    assert [message.data for message in sub.receive_batch(5)] == [expected] * 3


def test_a_batch_takes_numbers_that_follow_one_another_as_a_range(broker):
    seqs = broker.publish_batch("t", [b"x"] * 10)
    assert seqs == range(seqs[0], seqs[0] + 10)
    assert list(broker.publish_batch("t", [])) == []
    assert list(broker.publish_batch("t", (b"x",))) == [seqs[-1] + 1]


def test_topics_are_told_apart_however_their_strings_come(broker):
    sub = broker.subscribe("#")
    names = [f"topic.{i % 300}" for i in range(1000)]
    for name in names:
        broker.publish(name, name)
    assert [(each.topic, each.data.decode()) for each in sub.receive_batch(2000)] == [(name, name) for name in names]


def test_a_full_subscription_stops_a_batch_in_the_middle(broker):
    sub = broker.subscribe("t", buffer_size=10)
    with pytest.raises(mqshm.QueueFull) as caught:
        broker.publish_batch("t", [b"%d" % i for i in range(20)], timeout=0)
    seqs = list(caught.value.sequence_numbers)
    assert [message.seq for message in sub.receive_batch(20)] == seqs
    assert len(seqs) == 10


@pytest.mark.parametrize("verb", ["publish", "publish_batch"])
def test_a_publisher_waits_for_room(broker, verb):
    sub = broker.subscribe("t", buffer_size=10)
    broker.publish_batch("t", [b"x"] * 8)
    sent, received = [], []

    def send():
        for _ in range(5):
            sent.append(broker.publish("t", b"y") if verb == "publish" else broker.publish_batch("t", [b"y"] * 5)[-1])

    thread = threading.Thread(target=send)
    thread.start()
    until(lambda: broker._front._busy(), "a publisher that waits")
    until(lambda: received.extend(sub.receive_batch(10, timeout=0.01)) or not thread.is_alive())
    thread.join()
    received += sub.receive_batch(20, timeout=0)
    assert received[-1].seq == sent[-1] and len(received) == 8 + (5 if verb == "publish" else 25)


def test_receive_waits_no_longer_than_it_is_told(broker):
    sub = broker.subscribe("t")
    for timeout in (0.05, 0.25):
        started = time.monotonic()
        assert sub.receive(timeout) is None
        assert timeout <= time.monotonic() - started < timeout + 2
    assert sub.receive(timeout=0) is None
    assert sub.receive(timeout=-1) is None
    assert sub.receive_batch(3, timeout=0.01) == []
    with pytest.raises(ValueError):
        sub.receive(timeout=float("nan"))
    with pytest.raises(ValueError):
        sub.receive_batch(0)
    with pytest.raises(TypeError):
        sub.receive(0.1, 0.2)
    with pytest.raises(TypeError):
        sub.receive(wait=1)
    with pytest.raises(TypeError):
        sub.receive("1")


def test_a_signal_ends_a_wait_at_once(broker):
    sub = broker.subscribe("t")

    class Rung(Exception):
        pass

    def ring(*_):
        raise Rung

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.monotonic()
        with pytest.raises(Rung):
            sub.receive()
        assert time.monotonic() - started < 2
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not broker._front._busy()


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_a_message_is_settled_once(broker, group, data):
    broker.publish("g", data)
    message = group.receive(timeout=1)
    assert not message.settled
    message.ack()
    assert message.settled
    for again in (message.ack, message.nack, message.reject, lambda: message.extend(1)):
        with pytest.raises(mqshm.AlreadySettled):
            again()
    with message:
        pass  # leaves alone what is settled
    assert message.data == data and in_use(broker) == 0


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_leaving_a_message_acks_it_or_gives_it_back(broker, group, data):
    broker.publish("g", data)
    with pytest.raises(KeyError), group.receive(timeout=1):
        raise KeyError
    with group.receive(timeout=1) as message:
        assert message.attempt == 2 and message.redelivered
    assert message.data == data
    assert group.receive_nowait() is None


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_a_message_given_back_can_still_be_read(broker, group, data):
    broker.publish("g", data)
    message = group.receive(timeout=1)
    message.nack(delay=0)
    assert message.data == data
    message = group.receive(timeout=1)
    message.reject("no")
    assert message.data == data and group.receive_nowait() is None


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_a_message_that_is_dropped_is_given_back(broker, group, data):
    broker.publish("g", data)
    for attempt in (1, 2, 3):
        message = group.receive(timeout=1)
        assert message.attempt == attempt
        del message
        gc.collect()
        assert waiting(broker) == 1


def test_many_messages_are_acked_at_once(broker, group):
    broker.publish_batch("g", [b"x"] * 100)
    messages = group.receive_batch(100)
    messages[3].ack()
    assert group.ack_batch(messages) == 99
    assert group.ack_batch(iter(messages)) == 0
    with pytest.raises(TypeError):
        group.ack_batch([object()])
    assert in_use(broker) == 0


def test_a_view_keeps_the_slot_of_a_settled_message(broker, group):
    broker.publish("g", LARGE)
    message = group.receive(timeout=1)
    view = message.view
    part = view[10:20]
    message.ack()
    del view
    gc.collect()
    assert in_use(broker) == 1 and part == LARGE[10:20]
    with pytest.raises(TypeError):
        part[0] = 1
    del part
    gc.collect()
    assert in_use(broker) == 0
    with pytest.raises(mqshm.LeaseLost):
        message.view  # noqa: B018


def test_a_view_outlives_its_message(broker, group):
    broker.publish("g", LARGE)
    view = group.receive(timeout=1).view
    gc.collect()
    assert view == LARGE and group.receive_nowait() is None
    del view
    gc.collect()
    assert group.receive(timeout=1).attempt == 2


@pytest.mark.parametrize("how", ["nack", "reject"])
def test_giving_back_waits_for_the_last_view(broker, group, how):
    broker.publish("g", LARGE)
    message = group.receive(timeout=1)
    views = [message.view, message.view]
    getattr(message, how)()
    assert message.settled
    assert group.receive_nowait() is None and in_use(broker) == 1
    views.pop()
    gc.collect()
    assert group.receive_nowait() is None and views[0] == LARGE
    views.clear()
    gc.collect()
    assert waiting(broker) == (how == "nack")


def test_numpy_arrays_hold_the_payload(broker, group):
    numpy = pytest.importorskip("numpy")
    broker.publish("g", numpy.arange(10_000, dtype="u4"))
    message = group.receive(timeout=1)
    array = message.array("u4", (100, 100))
    message.ack()
    del message
    gc.collect()
    assert in_use(broker) == 1 and array.sum() == 10_000 * 9_999 // 2
    del array
    gc.collect()
    assert in_use(broker) == 0


def test_a_lease_that_ends_by_itself_leaves_views_whole(broker):
    group = broker.subscribe("t", group="timed", ack=AckPolicy.TIMEOUT, ack_timeout=0.05, backoff=(0.0, 0.0))
    broker.publish("t", LARGE)
    first = group.receive(timeout=1)
    view = first.view
    second = group.receive(timeout=5)
    assert second.attempt == 2
    broker.publish("t", os.urandom(100_000))
    assert view == LARGE
    with pytest.raises(mqshm.LeaseLost):
        first.ack()
    second.ack()


def test_a_large_payload_of_a_lost_lease_is_not_read(broker):
    group = broker.subscribe("t", group="timed", ack=AckPolicy.TIMEOUT, ack_timeout=0.05, backoff=(0.0, 0.0))
    broker.publish("t", LARGE)
    first = group.receive(timeout=1)
    with group.receive(timeout=5), pytest.raises(mqshm.LeaseLost):
        first.data  # noqa: B018


def test_a_message_that_is_settled_at_receive_keeps_a_large_payload_until_it_was_read(broker):
    sub = broker.subscribe("t", ack=AckPolicy.NONE)
    broker.publish("t", LARGE)
    message = sub.receive(timeout=1)
    assert message.settled and in_use(broker) == 1
    assert message.data == LARGE and in_use(broker) == 0
    broker.publish("t", LARGE)
    sub.receive(timeout=1)
    gc.collect()
    assert in_use(broker) == 0


def test_all_of_a_message_can_be_read_after_it_was_settled(broker):
    sub = broker.subscribe("t.#", ack=AckPolicy.NONE)
    broker.publish("t.é", b"x", id="i-é", key="k", headers={"h": 1}, priority=mqshm.Priority.HIGHEST, ttl=60)
    broker.publish("t.é", b"y")
    message, bare = sub.receive_batch(2)
    assert (message.topic, message.id, message.key, message.headers) == ("t.é", "i-é", "k", {"h": 1})
    assert message.priority == mqshm.Priority.HIGHEST and message.attempt == 1 and not message.redelivered
    assert abs(message.published_at - time.time()) < 5 < message.expires_at - time.time()
    assert (bare.id, bare.key, bare.headers, bare.expires_at) == (None, None, {}, None)


def test_a_message_stays_in_its_process(broker, group):
    broker.publish("g", b"x")
    message = group.receive(timeout=1)
    for attempt in (pickle.dumps, copy.copy, lambda message: type(message)()):
        with pytest.raises(TypeError):
            attempt(message)
    assert isinstance(message, mqshm.Delivery)


def test_closing_waits_for_views(front, name):
    broker = mqshm.connect(name)
    group = broker.subscribe("g", group="g")
    broker.publish("g", LARGE)
    message = group.receive(timeout=1)
    view = message.view
    attachment = broker._attachment
    broker.close()
    assert attachment.handle is not None and view == LARGE
    with pytest.raises(mqshm.BrokerClosed):
        message.ack()
    with pytest.raises(mqshm.BrokerClosed):
        message.view  # noqa: B018
    with pytest.raises(mqshm.BrokerClosed):
        broker.publish("g", b"x")
    with pytest.raises((mqshm.BrokerClosed, mqshm.SubscriptionClosed)):
        group.receive_nowait()
    del view
    gc.collect()
    assert attachment.handle is None
    with pytest.raises(mqshm.BrokerClosed):
        message.data  # noqa: B018
    del message  # touches nothing any more
    with mqshm.connect(name) as broker:
        assert broker.subscribe("g", group="g").receive(timeout=1).data == LARGE


def test_closing_ends_waits(broker):
    sub = broker.subscribe("t")
    ended = []

    def wait():
        try:
            sub.receive()
        except mqshm.MQError as error:
            ended.append(type(error))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: broker._front._busy())
    broker.close()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3 and set(ended) <= {mqshm.BrokerClosed, mqshm.SubscriptionClosed}


def test_threads_that_are_in_the_middle_of_calls_hear_of_the_end(front, name):
    def call(broker, sub, data, begun, ended):
        try:
            while True:
                broker.publish("t", data)
                message = sub.receive_nowait()
                if message is not None:
                    message.ack()
                begun.set()
        except (mqshm.BrokerClosed, mqshm.SubscriptionClosed) as error:
            ended.append(type(error))

    for _ in range(12):
        broker = mqshm.connect(name)
        sub = broker.subscribe("t", group="g", overflow="drop_oldest", buffer_size=20)
        begun, ended = [threading.Event() for _ in range(3)], []
        threads = [
            threading.Thread(target=call, args=(broker, sub, data, each, ended))
            for data, each in zip((SMALL, b"x" * 300, LARGE), begun, strict=True)
        ]
        for thread in threads:
            thread.start()
        assert all(each.wait(10) for each in begun)
        attachment = broker._attachment
        broker.close()
        for thread in threads:
            thread.join(10)
        assert len(ended) == 3
        until(lambda attachment=attachment: attachment.handle is None)


def test_a_broker_that_is_dropped_goes(front, name):
    broker = mqshm.connect(name)
    sub = broker.subscribe("t")
    broker.publish("t", LARGE)
    message = sub.receive(timeout=1)
    gone = [weakref.ref(broker), weakref.ref(sub), weakref.ref(broker._front), weakref.ref(sub._receiver)]
    attachment = broker._attachment
    del broker, sub, message
    gc.collect()
    assert [each() for each in gone] == [None] * 4
    assert attachment.handle is None


def test_a_child_leaves_its_parents_messages_alone(front, broker, group):
    broker.publish_batch("g", [SMALL, LARGE])
    small, large = group.receive_batch(2)
    view = large.view
    held = [small, large]

    def child():
        nonlocal small, large, view
        told = [held[0].data, bytes(held[1].data[:5]), bytes(view[:5])]
        for verb in (held[0].ack, held[1].nack, lambda: held[0].reject("x"), lambda: held[0].extend(1)):
            try:
                verb()
            except mqshm.ForkedHandle:
                told.append(b"forked")
        del small, large, view
        held.clear()
        gc.collect()
        return b"|".join(told)

    assert in_child(front, child) == b"|".join([SMALL, LARGE[:5], LARGE[:5], *[b"forked"] * 4])
    assert group.receive_nowait() is None
    assert group.ack_batch(held) == 2


def test_threads_share_a_front(broker):
    group = broker.subscribe("g", group="g", buffer_size=256)
    each, threads = 3000, 3
    seen = []

    def publish(k):
        for i in range(0, each, 10):
            broker.publish_batch("g", [b"%d.%d" % (k, i + j) for j in range(9)])
            broker.publish("g", b"%d.%d" % (k, i + 9))

    def consume():
        mine = []
        while len(seen) + len(mine) < each * threads:
            with_ack = group.receive(timeout=0.02)
            if with_ack is not None:
                with with_ack:
                    mine.append(with_ack.data)
            batch = group.receive_batch(7, timeout=0)
            group.ack_batch(batch)
            mine += [message.data for message in batch]
            seen.extend(mine)
            mine.clear()

    workers = [threading.Thread(target=publish, args=(k,)) for k in range(threads)]
    workers += [threading.Thread(target=consume) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(seen) == sorted(b"%d.%d" % (k, i) for k in range(threads) for i in range(each))
    assert in_use(broker) == 0


def test_nothing_leaks(broker, group):
    sub = broker.subscribe("t", buffer_size=64)
    timed = broker.subscribe("t", group="timed", ack=AckPolicy.TIMEOUT, ack_timeout=60, backoff=(0.0, 0.0))
    other = bytearray(b"other")

    def refused(error, function, *args, **options):
        with pytest.raises(error):
            function(*args, **options)

    def all_of_it():
        for data in (SMALL, LARGE, "text", other):
            broker.publish("t", data)
            broker.publish("t", data, id="i", key="k", headers={"h": "1"}, ttl=5)
            broker.publish_batch("t", [data, data, b"x"])
            messages = [sub.receive(), sub.receive(1), sub.receive(timeout=1), *sub.receive_batch(9)]
            _ = [(each.data, each.view, each.id, each.topic, each.headers, each.settled) for each in messages]
            messages[0].ack()
            refused(mqshm.AlreadySettled, messages[0].ack)
            messages = timed.receive_batch(5)
            view = messages[0].view
            messages[0].ack()
            messages[1].nack(0)
            messages[2].reject("because")
            with messages[3]:
                messages[3].extend(5)
            assert timed.ack_batch(messages) == 1 and view
            timed.receive().ack()
        broker.publish("g", LARGE)
        with pytest.raises(KeyError), group.receive(timeout=1):
            raise KeyError
        view = group.receive().view
        view = group.receive_batch(3, timeout=0) or view[5:]
        del view
        message = group.receive()
        view = message.view
        message.reject("no")
        del message, view
        refused(TypeError, broker.publish, "t", object())
        refused(TypeError, broker.publish_batch, "t", [b"x", object()])
        refused(TypeError, sub.receive, "x")
        refused(TypeError, sub.receive, 1, 2)
        refused(TypeError, group.ack_batch, [None])
        assert sub.receive_nowait() is None and sub.receive(timeout=0) is None and sub.receive_batch(2, timeout=0) == []

    def counts():
        gc.collect()
        watched = (None, SMALL, other, broker._front, sub._receiver, timed._receiver, mqshm.Delivery)
        return [sys.getallocatedblocks(), *map(sys.getrefcount, watched)]

    for _ in range(3):
        all_of_it()
    before = counts()
    for _ in range(100):
        all_of_it()
    grown = [after - was for after, was in zip(counts(), before, strict=True)]
    assert max(map(abs, grown)) < 50, grown
    assert in_use(broker) == 0
