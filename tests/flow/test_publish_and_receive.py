import time

import pytest

import mqshm
from mqshm import AckPolicy, Message, Priority
from tests.conftest import until


def test_a_message_arrives_with_all_that_was_sent_with_it(broker):
    sub = broker.subscribe("orders.*")
    before = time.time()
    seq = broker.publish(
        "orders.eu", b"17", id="o-17", priority=Priority.HIGH, ttl=60.0, headers={"trace": "a", "n": 1}, key="k"
    )
    message = sub.receive(timeout=1.0)
    assert (message.data, message.id, message.key, message.topic, message.seq) == (b"17", "o-17", "k", "orders.eu", seq)
    assert message.priority is Priority.HIGH
    assert message.headers == {"trace": "a", "n": 1}
    assert before - 1 <= message.published_at <= time.time() + 1
    assert message.published_at + 58 < message.expires_at < message.published_at + 62
    assert (message.attempt, message.redelivered) == (1, False)
    assert isinstance(message, mqshm.Delivery)


def test_a_plain_message_has_nothing_but_its_payload(broker):
    sub = broker.subscribe("a")
    assert isinstance(broker.publish("a", b"x"), int)
    message = sub.receive_nowait()
    assert (message.id, message.key, message.headers, message.expires_at) == (None, None, {}, None)
    assert message.priority is Priority.NORMAL


@pytest.mark.parametrize(
    "data", [b"", b"x", bytearray(b"y" * 71), memoryview(b"z" * 73), "Grüße", b"a" * 5000, b"b" * 3_000_000]
)
def test_any_payload_arrives_as_its_bytes(broker, data):
    sub = broker.subscribe("a")
    broker.publish("a", data)
    expected = data.encode() if isinstance(data, str) else bytes(data)
    message = sub.receive(timeout=1.0)
    assert message.data == expected
    assert bytes(message.view) == expected


def test_a_payload_that_lies_in_pieces_is_sent_whole(broker):
    sub = broker.subscribe("a")
    broker.publish("a", memoryview(b"abcdef")[::2])
    assert sub.receive_nowait().data == b"ace"


def test_a_prepared_message_is_the_same(broker):
    sub = broker.subscribe("a")
    broker.publish("a", Message(data=b"x", id="i", priority=Priority.LOW, headers={"h": None}))
    message = sub.receive_nowait()
    assert (message.data, message.id, message.priority, message.headers) == (b"x", "i", Priority.LOW, {"h": None})


def test_a_prepared_message_takes_no_more_options(broker):
    with pytest.raises(TypeError, match="Message"):
        broker.publish("a", Message(b"x"), priority=Priority.HIGH)


@pytest.mark.parametrize("data", [1, None, {"a": 1}, ["x"]])
def test_an_object_is_a_type_error_that_says_what_to_do(broker, data):
    with pytest.raises(TypeError, match=r"mqshm\.Queue.*pickle"):
        broker.publish("a", data)
    with pytest.raises(TypeError, match=r"mqshm\.Queue.*pickle"):
        broker.publish_batch("a", [b"x", data])


@pytest.mark.parametrize("topic", ["", "a..b", "a.*", "x" * 1025, "\ud800", "a\nb"])
def test_a_bad_topic_is_refused(broker, topic):
    with pytest.raises(mqshm.InvalidTopic):
        broker.publish(topic, b"x")
    with pytest.raises(mqshm.InvalidTopic):
        broker.publish(topic, b"x", priority=Priority.HIGH)
    with pytest.raises(mqshm.InvalidTopic):
        broker.publish_batch(topic, [b"x"])


@pytest.mark.parametrize("topic", [None, 1, b"a"])
def test_a_topic_that_is_no_str_is_a_type_error(broker, topic):
    with pytest.raises(TypeError):
        broker.publish(topic, b"x")
    with pytest.raises(TypeError):
        broker.publish_batch(topic, [b"x"])


def test_a_message_nobody_subscribed_to_is_gone(broker):
    broker.publish("a", b"early")
    sub = broker.subscribe("a")
    assert sub.receive_nowait() is None


def test_every_private_subscription_sees_every_message(broker):
    subs = [broker.subscribe("a.#") for _ in range(30)]
    broker.publish("a.b.c", b"x" * 100)
    assert [sub.receive(timeout=1.0).data for sub in subs] == [b"x" * 100] * 30


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a.*", ["a.b"], ["a", "a.b.c", "b.b"]),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab"]),
        ("#", ["a", "a.b"], []),
        ("*.b.#", ["a.b", "x.b.c.d"], ["b", "a.c"]),
        ("a.#.z", ["a.z", "a.b.c.z"], ["a", "a.b", "z"]),
        ("a.b", ["a.b"], ["a", "a.b.c"]),
    ],
)
def test_patterns_match_words(broker, pattern, yes, no):
    sub = broker.subscribe(pattern)
    for topic in yes + no:
        broker.publish(topic, topic)
    assert [message.topic for message in sub.receive_batch(100, timeout=0)] == yes


def test_several_patterns_of_one_subscription_deliver_once(broker):
    sub = broker.subscribe_batch(["a.*", "*.b", "c"])
    for topic in ("a.b", "c", "d"):
        broker.publish(topic, b"x")
    assert [message.topic for message in sub.receive_batch(10, timeout=0)] == ["a.b", "c"]
    assert sub.patterns == ("a.*", "*.b", "c")


def test_a_subscription_without_a_pattern_is_refused(broker):
    with pytest.raises(mqshm.InvalidConfig):
        broker.subscribe_batch([])
    with pytest.raises(TypeError):
        broker.subscribe_batch("a.*")
    with pytest.raises(mqshm.InvalidTopic):
        broker.subscribe("a*")


def test_order_is_kept_within_a_priority_and_the_higher_goes_first(broker):
    sub = broker.subscribe("a")
    for n in range(50):
        broker.publish("a", str(n), priority=(n % 5) * 10)
    got = [(int(m.priority), int(m.data)) for m in sub.receive_batch(100, timeout=0)]
    assert got == sorted(got, key=lambda each: (-each[0], each[1]))
    assert len(got) == 50


def test_sequence_numbers_rise(broker):
    numbers = [broker.publish("a", b"x") for _ in range(300)]
    assert numbers == sorted(set(numbers))


def test_a_batch_arrives_whole_and_in_order(broker):
    sub = broker.subscribe("a", buffer_size=1000)
    seqs = broker.publish_batch("a", [str(n) for n in range(500)])
    assert len(seqs) == 500
    got = sub.receive_batch(1000, timeout=1.0)
    assert [int(message.data) for message in got] == list(range(500))
    assert [message.seq for message in got] == list(seqs)


def test_a_batch_may_mix_payloads_and_messages(broker):
    sub = broker.subscribe("a")
    seqs = broker.publish_batch("a", [b"1", Message(b"2", id="two"), "3", Message(b"4")], priority=20)
    got = sub.receive_batch(10, timeout=0)
    assert [(m.data, m.id) for m in got] == [(b"1", None), (b"2", "two"), (b"3", None), (b"4", None)]
    assert [m.seq for m in got] == list(seqs)


def test_an_empty_batch_is_nothing(broker):
    assert list(broker.publish_batch("a", [])) == []


def test_a_batch_may_come_from_a_generator_with_one_priority(broker):
    sub = broker.subscribe("a")
    broker.publish_batch("a", (bytes([n]) for n in range(3)), priority=Priority.HIGHEST)
    assert {m.priority for m in sub.receive_batch(9, timeout=0)} == {Priority.HIGHEST}


def test_one_payload_in_the_place_of_a_batch_is_a_type_error(broker):
    with pytest.raises(TypeError, match="list"):
        broker.publish_batch("a", b"abc")


def test_receiving_returns_nothing_after_the_timeout(broker):
    sub = broker.subscribe("a")
    start = time.monotonic()
    assert sub.receive(timeout=0.05) is None
    assert 0.04 < time.monotonic() - start < 5
    assert sub.receive_nowait() is None
    assert sub.receive_batch(5, timeout=0) == []


def test_a_batch_of_none_is_refused(broker):
    with pytest.raises(ValueError):
        broker.subscribe("a").receive_batch(0)


def test_a_message_is_not_delivered_after_its_time(broker):
    sub = broker.subscribe("a")
    broker.publish("a", b"short", ttl=0.02)
    over = time.time() + 0.02
    broker.publish("a", b"long", ttl=60)
    until(lambda: time.time() > over, "the end of the first")
    assert sub.receive_nowait().data == b"long"
    assert sub.receive_nowait() is None


def test_the_brokers_ttl_is_for_messages_without_one(name):
    with mqshm.connect(name, config=mqshm.Config(message_ttl=0.02)) as broker:
        sub = broker.subscribe("a")
        broker.publish("a", b"default")
        over = time.time() + 0.02
        broker.publish("a", b"own", ttl=60)
        broker.publish("a", b"never", ttl=0)
        until(lambda: time.time() > over, "the end of the first")
        got = sub.receive_batch(9, timeout=0)
        assert [message.data for message in got] == [b"own", b"never"]
        assert got[1].expires_at is None


def test_a_delayed_message_arrives_later(broker):
    sub = broker.subscribe("a")
    broker.publish("a", b"later", delay=0.1)
    broker.publish("a", b"now")
    assert sub.receive(timeout=1.0).data == b"now"
    assert sub.receive_nowait() is None
    start = time.monotonic()
    assert sub.receive(timeout=5.0).data == b"later"
    assert time.monotonic() - start < 1.0


def test_a_loop_over_a_subscription_ends_when_it_is_closed(broker):
    sub = broker.subscribe("a")
    broker.publish_batch("a", [b"1", b"2", b"3"])
    got = []
    for message in sub:
        got.append(message.data)
        if len(got) == 3:
            sub.close()
    assert got == [b"1", b"2", b"3"]


def test_waiting_for_several_subscriptions_tells_which(broker):
    one, two = broker.subscribe("one"), broker.subscribe("two")
    assert mqshm.wait(one, two, timeout=0.02) == []
    broker.publish("two", b"x")
    assert mqshm.wait(one, two, timeout=1.0) == [two]
    broker.publish("one", b"x")
    assert mqshm.wait(one, two) == [one, two]


def test_the_policy_without_acks_takes_an_ack_all_the_same(broker):
    sub = broker.subscribe("a", ack=AckPolicy.NONE)
    broker.publish_batch("a", [b"1", b"2"])
    message = sub.receive_nowait()
    assert message.settled
    message.ack()
    with pytest.raises(mqshm.AlreadySettled):
        message.ack()
    with sub.receive_nowait():
        pass
    assert sub.receive_nowait() is None
