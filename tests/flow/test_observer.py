import asyncio

import pytest

import mqshm


@pytest.fixture
def seen():
    return []


@pytest.fixture
def watched(name, seen):
    with mqshm.connect(name, observer=seen.append) as broker:
        yield broker


def ops(seen):
    return [(each.op, each.topic) for each in seen]


def test_every_operation_is_reported_with_its_topic(watched, seen):
    sub = watched.subscribe("a.*", group="g", backoff=(0, 0))
    watched.publish("a.b", b"1")
    watched.publish("a.b", b"2", priority=40)
    watched.publish_batch("a.c", [b"3"])
    sub.receive_nowait().ack()
    sub.receive(timeout=1.0).nack(delay=0)
    with sub.receive(timeout=1.0):
        pass
    sub.receive_batch(5)[0].reject("x")
    assert ops(seen) == [
        ("subscribe", "a.*"), ("publish", "a.b"), ("publish", "a.b"), ("publish_batch", "a.c"),
        ("receive_nowait", "a.b"), ("ack", "a.b"), ("receive", "a.b"), ("nack", "a.b"), ("receive", "a.b"),
        ("ack", "a.b"), ("receive_batch", "a.c"), ("reject", "a.c"),
    ]  # fmt: skip
    assert all(each.error is None and each.seconds >= 0 for each in seen)


def test_a_failure_is_reported_and_raised(watched, seen):
    with pytest.raises(mqshm.InvalidTopic):
        watched.publish("", b"")
    assert isinstance(seen[-1].error, mqshm.InvalidTopic)


def test_an_observer_that_raises_breaks_nothing(name, caplog):
    def observer(operation):
        raise RuntimeError("mine")

    with mqshm.connect(name, observer=observer) as broker:
        sub = broker.subscribe("a")
        broker.publish("a", b"x")
        assert sub.receive_nowait().data == b"x"
    assert "mine" in caplog.text


def test_what_an_observer_raises_is_counted_and_logged_once(name, caplog):
    def observer(operation):
        raise SystemExit("not even this ends an operation")

    with mqshm.connect(name, observer=observer) as broker, mqshm.connect(name) as other:
        sub = broker.subscribe("a")
        for _ in range(3):
            broker.publish("a", b"x")
        assert [sub.receive_nowait().data for _ in range(3)] == [b"x"] * 3
        seen = other.health_check()
        assert (seen.panics, seen.status, [reason.code for reason in seen.reasons]) == (7, "degraded", ["panics"])
    assert len(caplog.records) == 1


def test_ctrl_c_in_an_observer_goes_through(name):
    def observer(operation):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), mqshm.connect(name, observer=observer) as broker:
        broker.publish("a", b"x")


def test_an_observer_that_uses_the_broker_is_not_told_of_that(name):
    seen = []

    def observer(operation):
        seen.append(operation.op)
        broker.publish("log", operation.op)

    with mqshm.connect(name, observer=observer) as broker:
        broker.publish("a", b"x")
        assert seen == ["publish"]
        assert broker.stats().topics["log"].published == 1


def test_what_a_handler_raises_is_reported_with_the_nack(watched, seen):
    sub = watched.subscribe("a", group="g", backoff=(0, 0))
    watched.publish("a", b"x")
    error = RuntimeError("mine")
    with pytest.raises(RuntimeError), sub.receive_nowait():
        raise error
    assert (seen[-1].op, seen[-1].topic, seen[-1].error, seen[-1].panic) == ("nack", "a", None, error)
    with pytest.raises(KeyboardInterrupt), sub.receive_nowait() as message:
        raise KeyboardInterrupt
    assert (seen[-1].op, seen[-1].panic) == ("nack", None)
    assert message.settled
    assert watched.health_check().panics == 1


def test_an_operation_of_asyncio_is_reported_when_it_has_ended(watched, seen):
    watched.subscribe("a", group="g", buffer_size=1, overflow="reject")
    watched.publish("a", b"x")

    async def full():
        with pytest.raises(mqshm.QueueFull):
            await watched.publish_async("a", b"x", timeout=0)

    asyncio.run(full())
    assert (seen[-1].op, seen[-1].topic, type(seen[-1].error)) == ("publish_async", "a", mqshm.QueueFull)
    empty = watched.subscribe("b")
    assert asyncio.run(empty.receive_async(timeout=0.05)) is None
    assert (seen[-1].op, seen[-1].error) == ("receive_async", None)
    assert seen[-1].seconds >= 0.05


def test_batches_loans_and_looks_are_reported(watched, seen):
    sub = watched.subscribe("a", group="g")
    with watched.loan("a", nbytes=1):
        pass
    sub.ack_batch(sub.receive_batch(1))
    watched.health_check()
    assert ops(seen)[1:] == [
        ("loan", "a"), ("publish", "a"), ("receive_batch", "a"), ("ack_batch", "a"), ("health_check", None),
    ]  # fmt: skip


def test_a_message_that_outlives_its_broker_is_reported_without_a_topic(name, seen):
    with mqshm.connect(name, observer=seen.append) as broker:
        sub = broker.subscribe("a", group="g")
        broker.publish("a", b"x")
        message = sub.receive_nowait()
    with pytest.raises(mqshm.BrokerClosed):
        message.ack()
    assert (seen[-1].op, type(seen[-1].error)) == ("ack", mqshm.BrokerClosed)


def test_asyncio_is_reported_too(watched, seen):
    sub = watched.subscribe("a")
    asyncio.run(watched.publish_async("a", b"x"))
    assert asyncio.run(sub.receive_async()).data == b"x"
    assert ("publish", "a") in [(op.removesuffix("_async"), topic) for op, topic in ops(seen)]


def test_who_does_not_observe_pays_nothing(broker):
    assert type(broker.publish).__name__ in ("builtin_function_or_method", "method")
    assert not hasattr(broker.publish, "__wrapped__")
