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


def test_asyncio_is_reported_too(watched, seen):
    sub = watched.subscribe("a")
    asyncio.run(watched.publish_async("a", b"x"))
    assert asyncio.run(sub.receive_async()).data == b"x"
    assert ("publish", "a") in [(op.removesuffix("_async"), topic) for op, topic in ops(seen)]


def test_who_does_not_observe_pays_nothing(broker):
    assert type(broker.publish).__name__ in ("builtin_function_or_method", "method")
    assert not hasattr(broker.publish, "__wrapped__")
