"""Messages that are given up are kept, with why, and can be put back."""

import os
import time

import pytest

import mqshm
from mqshm import AckPolicy, Config, Priority
from mqshm._native import lib
from mqshm.deadletters import GROUP
from tests.conftest import until

LARGE = os.urandom(100_000)


@pytest.fixture
def broker(name):
    with mqshm.connect(name, config=Config(dead_letter_topic="dlq", backoff=(0.0, 0.0))) as broker:
        yield broker
        assert broker.fsck().clean


def the_one(broker):
    letters = broker.dead_letters(max_bytes=1 << 20)
    assert len(letters) == 1
    return letters[0]


@pytest.mark.parametrize("data", [b"small", LARGE])
def test_a_rejected_message_is_kept_with_all_that_is_known_of_it(broker, data):
    group = broker.subscribe("orders.*", group="billing")
    before = time.time()
    broker.publish("orders.eu", data, id="o-1", key="k", priority=Priority.HIGH, headers={"trace": "t", "n": 7})
    group.receive(timeout=5).reject("no such customer")
    letter = the_one(broker)
    assert (letter.reason, letter.topic, letter.group, letter.attempts) == (
        "no such customer",
        "orders.eu",
        "billing",
        1,
    )
    assert (letter.data, letter.id, letter.key, letter.priority) == (data, "o-1", "k", Priority.HIGH)
    assert letter.headers == {"trace": "t", "n": 7} and letter.replays == 0
    assert before - 1 <= letter.first_at <= letter.last_at + 1 <= time.time() + 2
    assert group.receive_nowait() is None
    assert broker.stats().groups["billing"].rejected == 1
    now = broker.dead_letter_stats()
    assert (now.enabled, now.topic, now.total_messages, now.current_count) == (True, "dlq", 1, 1)
    assert now.last_message_time == letter.last_at


def test_after_max_attempts_it_is_a_dead_letter(broker):
    group = broker.subscribe("t", group="g", max_attempts=2)
    broker.publish("t", b"a")
    group.receive(timeout=5).nack(delay=0)
    assert broker.dead_letters() == []
    group.receive(timeout=5).nack(delay=0)
    letter = the_one(broker)
    assert (letter.reason, letter.attempts) == ("max_attempts", 2)
    assert group.receive_nowait() is None


def _die_with_it(name):
    broker = mqshm.connect(name)
    broker.subscribe("t", group="g").receive(timeout=10)
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("delay", [None, 0.05])
def test_what_expires_is_a_dead_letter_where_that_is_configured_and_is_counted_as_expired(name, delay):
    config = mqshm.Config(dead_letter_topic="dlq", dead_letter_expired=True)
    with mqshm.connect(name, config=config, supervisor=False) as broker:
        group = broker.subscribe("t", group="g")
        message = mqshm.Message(b"late", ttl=0.02, delay=delay)
        broker.publish_batch("t", [message] * 3)
        over = time.time() + 0.03
        until(lambda: time.time() > over, "the end of their time")
        until(lambda: group.receive(timeout=0.06) is None and len(broker.dead_letters()) == 3, "three dead letters")
        assert {(letter.data, letter.reason, letter.attempts) for letter in broker.dead_letters()} == {
            (b"late", "expired", 0)
        }
        counted = broker.stats().groups["g"]
        assert (counted.expired, counted.rejected) == (3, 0)


def test_a_message_that_kills_its_consumers_is_a_dead_letter(broker, name, run):
    group = broker.subscribe("t", group="g", max_attempts=2)
    broker.publish("t", b"poison")
    for _ in range(2):
        run(_die_with_it, name).join(20)
    assert group.receive(timeout=0.2) is None
    letter = the_one(broker)
    assert (letter.data, letter.reason, letter.attempts) == (b"poison", "max_attempts", 2)


def test_replayed_letters_are_on_their_topic_again_and_say_so_when_they_die_again(broker):
    group = broker.subscribe("a", group="g", ack=AckPolicy.REQUIRED)
    other = broker.subscribe("b", group="h")
    for topic, sub in (("a", group), ("b", other)):
        broker.publish(topic, topic.encode(), headers={"own": True})
        sub.receive(timeout=5).reject("bad day")
    assert broker.replay_dead_letters(topic="a") == 1
    again = group.receive(timeout=5)
    assert again.data == b"a" and again.attempt == 1 and again.headers == {"own": True, "dead.replays": 1}
    assert the_one(broker).topic == "b"
    again.reject("still")
    assert {(each.topic, each.replays, each.reason) for each in broker.dead_letters()} == {
        ("a", 1, "still"),
        ("b", 0, "bad day"),
    }
    assert broker.replay_dead_letters(limit=1) == 1
    assert broker.replay_dead_letters() == 1
    assert broker.dead_letters() == [] and broker.replay_dead_letters() == 0
    assert group.receive(timeout=5).headers["dead.replays"] == 2


def test_a_dead_letter_topic_is_a_topic(broker):
    letters = broker.subscribe("dlq")
    group = broker.subscribe("t", group="g")
    broker.publish("t", b"a")
    group.receive(timeout=5).reject("r")
    letter = letters.receive(timeout=5)
    assert letter.topic == "dlq" and letter.headers["dead.reason"] == "r"
    assert broker.purge(GROUP) == 1 and broker.dead_letters() == []


def test_one_that_is_rejected_there_is_gone_for_good(broker):
    broker.publish_to_dead_letter("t", b"x", "by hand")
    with broker.subscribe("dlq", group=GROUP) as letters:
        letters.receive(timeout=5).reject("enough")
    assert broker.dead_letters() == []


def test_the_publisher_or_the_consumer_may_give_up_by_itself(broker):
    broker.publish_to_dead_letter("t", mqshm.Message(b"x", id="i", headers={"h": 1}), "by hand")
    letter = the_one(broker)
    assert (letter.topic, letter.reason, letter.id, letter.headers) == ("t", "by hand", "i", {"h": 1})
    assert broker.purge(GROUP) == 1
    group = broker.subscribe("t", group="g")
    broker.publish("t", b"y", headers={"h": 2})
    message = group.receive(timeout=5)
    broker.publish_to_dead_letter("t", message, "of no use")
    assert message.settled and group.receive_nowait() is None
    letter = the_one(broker)
    assert (letter.data, letter.reason, letter.attempts, letter.headers) == (b"y", "of no use", 1, {"h": 2})


def test_without_a_dead_letter_topic_what_is_given_up_is_gone(name):
    with mqshm.connect(name) as broker:
        group = broker.subscribe("t", group="g")
        broker.publish("t", b"a")
        group.receive(timeout=5).reject("r")
        assert not broker.dead_letter_stats().enabled and broker.dead_letters() == []
        with pytest.raises(mqshm.DeadLetterDisabled):
            broker.replay_dead_letters()
        with pytest.raises(mqshm.DeadLetterDisabled):
            broker.publish_to_dead_letter("t", b"", "r")
        broker.update_config(dead_letter_topic="dlq")
        broker.publish("t", b"b")
        group.receive(timeout=5).reject("r")
        assert the_one(broker).data == b"b"
        with pytest.raises(mqshm.InvalidConfig, match="purge"):
            broker.update_config(dead_letter_topic="elsewhere")
        broker.purge(GROUP)
        assert broker.update_config(dead_letter_topic="elsewhere").dead_letter_topic == "elsewhere"
        broker.publish("t", b"c")
        group.receive(timeout=5).reject("r")
        assert the_one(broker).data == b"c"


def test_old_dead_letters_make_room_for_new_ones(name):
    config = Config(dead_letter_topic="dlq", max_memory_usage=8 << 20, overflow="reject")
    with mqshm.connect(name, config=config) as broker:
        group = broker.subscribe("t", group="g")
        for number in range(200):
            broker.publish("t", b"%d" % number + bytes(100_000))
            group.receive(timeout=5).reject("")
        letters = {int(each.data.split(b"\0")[0]) for each in broker.dead_letters(1000)}
        assert 199 in letters and 0 not in letters and len(letters) > 10
        assert broker.stats().groups["g"].rejected == 200
        assert broker.memory_usage <= 8 << 20


def test_where_nothing_takes_a_dead_letter_its_message_stays(broker):
    broker.create_group("picky", "dlq", buffer_size=1, overflow="reject")
    group = broker.subscribe("t", group="g", backoff=(0, 0))
    for data in (b"1", b"2"):
        broker.publish("t", data)
        group.receive(timeout=5).reject("")
    assert [each.data for each in broker.dead_letters()] == [b"1"]
    assert broker.stats().groups["g"].delayed == 1
    broker.delete_group("picky")
    message = group.receive(timeout=10)
    assert message.data == b"2" and message.attempt == 2
    message.reject("")
    assert len(broker.dead_letters()) == 2


def test_the_command_shows_replays_and_removes_them(broker, name, capsys):
    from mqshm.cli import main

    group = broker.subscribe("t", group="g")
    for data in (b"one", b"two\n"):
        broker.publish("t", data)
        group.receive(timeout=5).reject("why not")
    assert main(["dlq", name]) == 0
    shown = capsys.readouterr().out
    assert "2 dead letters on dlq" in shown and "why not" in shown and "two." in shown
    assert main(["dlq", name, "replay", "--limit", "1"]) == 0
    assert capsys.readouterr().out == "1 dead letters are on their topics again\n"
    assert main(["dlq", name, "purge", "--json"]) == 0
    assert '"purged": 1' in capsys.readouterr().out
    broker.update_config(dead_letter_topic=None)
    assert main(["dlq", name, "replay"]) == 1
    assert "dead_letter_topic" in capsys.readouterr().err


@pytest.fixture
def mourning(name):
    """A broker in which what expires becomes a dead letter too."""
    config = Config(dead_letter_topic="dlq", dead_letter_expired=True, backoff=(0.0, 0.0))
    with mqshm.connect(name, config=config) as broker:
        broker.create_group("g", "a", buffer_size=4)
        yield broker
        assert broker.fsck().clean


def letters_after_watching(broker):
    assert lib.mqshm_watch(broker._attachment.handle, 50_000_000) in (lib.MQSHM_OK, lib.MQSHM_TIMEOUT)
    return sorted(letter.data for letter in broker.dead_letters())


def test_what_expires_is_a_dead_letter_although_nobody_receives(mourning):
    for data in (b"1", b"2", b"3"):
        mourning.publish("a", data, ttl=0.02)
    until(lambda: letters_after_watching(mourning) == [b"1", b"2", b"3"])
    assert {letter.reason for letter in mourning.dead_letters()} == {"expired"}
    assert (mourning.stats().groups["g"].expired, mourning.stats().groups["g"].waiting) == (3, 0)


def test_an_expired_message_waits_for_those_before_it_to_become_a_dead_letter(mourning):
    mourning.publish("a", b"first")
    mourning.publish("a", b"short", ttl=0.02)
    with mourning.subscribe("a", group="g") as sub:
        until(lambda: not letters_after_watching(mourning) and sub.receive(timeout=0.0)).ack()
    until(lambda: letters_after_watching(mourning) == [b"short"])


@pytest.mark.parametrize("delay", [0, 30.0], ids=["at once", "for later"])
def test_what_was_given_back_and_expires_is_a_dead_letter(mourning, delay):
    with mourning.subscribe("a", group="g") as sub:
        mourning.publish("a", b"x", ttl=0.1)
        sub.receive(timeout=1.0).nack(delay=delay)
    until(lambda: letters_after_watching(mourning) == [b"x"])


def test_nobody_need_receive_for_a_worn_out_message_to_end(name, run):
    with mqshm.connect(name, config=Config(dead_letter_topic="dlq"), supervisor=True) as broker:
        broker.create_group("g", "t", max_attempts=1)
        broker.publish("t", b"poison")
        run(_die_with_it, name).join(20)
        until(broker.dead_letters, "the dead letter")
        assert the_one(broker).reason == "max_attempts"
