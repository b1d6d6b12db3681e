"""What happens where there is no room."""

import queue
import threading

import pytest

import mqshm


def test_a_full_subscription_makes_the_publisher_wait(broker):
    sub = broker.subscribe("a", buffer_size=2)
    broker.publish_batch("a", [b"1", b"2"])
    with pytest.raises(mqshm.QueueFull):
        broker.publish("a", b"3", timeout=0.05)
    with pytest.raises(queue.Full):
        broker.publish("a", b"3", timeout=0)
    waiting = threading.Thread(target=broker.publish, args=("a", b"3"))
    waiting.start()
    assert sub.receive(timeout=5.0).data == b"1"
    waiting.join(5.0)
    assert not waiting.is_alive()
    assert [m.data for m in sub.receive_batch(9, timeout=0)] == [b"2", b"3"]


def test_a_subscription_may_reject(broker):
    sub = broker.subscribe("a", buffer_size=1, overflow="reject")
    broker.publish("a", b"1")
    with pytest.raises(mqshm.QueueFull):
        broker.publish("a", b"2")
    assert sub.receive_nowait().data == b"1"


def test_a_subscription_may_drop_the_oldest(broker):
    sub = broker.subscribe("a", buffer_size=2, overflow="drop_oldest")
    broker.publish_batch("a", [b"1", b"2", b"3"])
    assert [m.data for m in sub.receive_batch(9, timeout=0)] == [b"2", b"3"]


def test_a_subscription_may_drop_the_new_one(broker):
    sub = broker.subscribe("a", buffer_size=2, overflow="drop_new")
    broker.publish_batch("a", [b"1", b"2", b"3"])
    assert [m.data for m in sub.receive_batch(9, timeout=0)] == [b"1", b"2"]
    assert broker.stats().private[0].dropped == 1


def test_what_is_refused_is_not_counted_as_dropped(broker):
    dropping = broker.subscribe("a", buffer_size=1, overflow="drop_new")
    refusing = broker.subscribe("a", buffer_size=2, overflow="reject", group="refusing")
    broker.publish_batch("a", [b"1", b"2"])
    with pytest.raises(mqshm.QueueFull):
        broker.publish("a", b"3")
    assert broker.stats().private[0].dropped == 1
    assert len(refusing.receive_batch(9, timeout=0)) == 2
    assert len(dropping.receive_batch(9, timeout=0)) == 1


def test_a_publish_is_in_all_subscriptions_or_in_none(broker):
    roomy = broker.subscribe("a", buffer_size=10)
    broker.subscribe("a", buffer_size=1, overflow="reject", group="small")
    broker.publish("a", b"1")
    with pytest.raises(mqshm.QueueFull):
        broker.publish("a", b"2")
    assert [m.data for m in roomy.receive_batch(9, timeout=0)] == [b"1"]


def test_a_batch_that_stops_in_the_middle_says_what_is_in(broker):
    sub = broker.subscribe("a", buffer_size=3)
    with pytest.raises(mqshm.QueueFull) as raised:
        broker.publish_batch("a", [b"1", b"2", mqshm.Message(b"3", id="x"), b"4", b"5"], timeout=0)
    got = sub.receive_batch(9, timeout=0)
    assert [m.data for m in got] == [b"1", b"2", b"3"]
    assert list(raised.value.sequence_numbers) == [m.seq for m in got]


def test_a_message_over_the_limit_is_refused(broker):
    broker.update_config(max_message_size=100)
    broker.publish("a", b"x" * 100)
    with pytest.raises(mqshm.MessageTooLarge):
        broker.publish("a", b"x" * 101)


def test_memory_ends_at_its_limit_and_comes_back(name):
    limit = 8 << 20
    with mqshm.connect(name, config=mqshm.Config(max_memory_usage=limit)) as broker:
        sub = broker.subscribe("a", buffer_size=1000)
        sent = 0
        with pytest.raises(mqshm.MemoryLimitExceeded) as raised:
            for _ in range(1000):
                broker.publish("a", b"x" * 100_000, timeout=0)
                sent += 1
        assert isinstance(raised.value, MemoryError)
        assert 10 < sent < 80
        assert broker.memory_usage <= limit
        assert len(sub.receive_batch(1000, timeout=0)) == sent
        broker.publish("a", b"x" * 100_000, timeout=1.0)


def test_topics_end_at_their_limit(name):
    with mqshm.connect(name, config=mqshm.Config(max_topics=2)) as broker:
        broker.publish("a", b"")
        broker.publish("b", b"")
        with pytest.raises(mqshm.LimitExceeded):
            broker.publish("c", b"")
        broker.update_config(max_topics=3)
        broker.publish("c", b"")


def test_subscribers_end_at_their_limit(name):
    with mqshm.connect(name, config=mqshm.Config(max_subscribers=1)) as broker:
        broker.subscribe("a.*")
        first = broker.subscribe("b.*")
        with pytest.raises(mqshm.LimitExceeded):
            broker.subscribe("b.*")
        first.close()
        broker.subscribe("b.*")


def test_memory_of_messages_that_are_gone_serves_messages_of_other_sizes(name):
    config = mqshm.Config(max_memory_usage=8 << 20, overflow="reject")
    with mqshm.connect(name, config=config) as broker:
        sub = broker.subscribe("a", buffer_size=1000)
        for size in (1 << 20, 100_000, 10_000):
            sent = 0
            with pytest.raises(mqshm.MemoryLimitExceeded):
                while True:
                    broker.publish("a", bytes(size))
                    sent += 1
            assert sent * size > 5 << 20
            assert [len(m.data) for m in sub.receive_batch(sent + 1, timeout=0)] == [size] * sent
        assert broker.memory_usage <= 8 << 20


def test_of_a_full_subscription_the_lowest_priority_may_go_and_be_the_new_one(broker):
    sub = broker.subscribe("a", buffer_size=3, overflow="drop_lowest")
    for number, priority in enumerate((20, 0, 20, 10, 0, 20, 20, 40), 1):
        broker.publish("a", str(number), priority=priority)
    got = sub.receive_batch(9)
    assert [m.data for m in got] == [b"8", b"6", b"7"]
    (stats,) = broker.stats().private
    assert (stats.published, stats.dropped) == (8, 5)


def test_at_the_memory_limit_the_oldest_may_go(name):
    with mqshm.connect(name, config=mqshm.Config(max_memory_usage=4 << 20, overflow="drop_oldest")) as broker:
        sub = broker.subscribe("a", buffer_size=10_000)
        for number in range(300):
            broker.publish("a", b"%d" % number + bytes(20_000))
        broker.publish("a", bytes(1 << 20))
        got = [message.data for message in sub.receive_batch(10_000, timeout=0)]
        numbers = [int(data.rstrip(b"\0") or -1) for data in got]
        assert numbers[-1] == -1 and numbers[-2] == 299
        assert numbers[:-1] == list(range(numbers[0], 300)) and numbers[0] > 0
        assert broker.stats().private[0].dropped == 301 - len(got)
        assert broker.memory_usage <= 4 << 20


def test_at_the_memory_limit_the_lowest_priority_of_all_may_go(name):
    with mqshm.connect(name, config=mqshm.Config(max_memory_usage=4 << 20, overflow="drop_lowest")) as broker:
        low, high = broker.subscribe("low", buffer_size=10_000), broker.subscribe("high", buffer_size=10_000)
        for number in range(100):
            broker.publish("low", b"%d" % number + bytes(20_000), priority=(0, 40)[number % 2])
        for number in range(300):
            broker.publish("high", b"%d" % number + bytes(20_000), priority=20)
        numbers = [int(message.data.rstrip(b"\0")) for message in low.receive_batch(10_000, timeout=0)]
        assert numbers == list(range(1, 100, 2)), "of a higher priority, or not dropped"
        numbers = [int(message.data.rstrip(b"\0")) for message in high.receive_batch(10_000, timeout=0)]
        assert numbers == list(range(numbers[0], 300)) and numbers[0] > 0
        for _ in range(300):
            broker.publish("high", bytes(20_000), priority=40)
        broker.publish("low", bytes(200_000), priority=30)
        assert low.receive_nowait() is None, "what is lower than all that waits goes itself"
        stats = broker.stats().private
        for each in stats:
            assert each.published - each.dropped == each.settled + each.waiting
        assert broker.memory_usage <= 4 << 20


def test_at_the_memory_limit_the_new_one_may_go(name):
    with mqshm.connect(name, config=mqshm.Config(max_memory_usage=4 << 20, overflow="drop_new")) as broker:
        sub = broker.subscribe("a", buffer_size=10_000)
        for number in range(300):
            broker.publish("a", b"%d" % number + bytes(20_000))
        got = [int(message.data.rstrip(b"\0")) for message in sub.receive_batch(10_000, timeout=0)]
        assert got == list(range(len(got))) and 100 < len(got) < 300
        assert broker.stats().private[0].dropped == 300 - len(got)
