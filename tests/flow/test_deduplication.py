"""An id is published once within the broker's dedup_window."""

import itertools
import multiprocessing
import os

import pytest

import mqshm
from mqshm import Config, DuplicateMessage, Message
from tests.conftest import until

LONG = 3600.0


@pytest.fixture
def remembering(name):
    with mqshm.connect(name, config=Config(dedup_window=LONG, dead_letter_topic="dead", max_attempts=1)) as broker:
        yield broker
        assert broker.fsck().clean


def everything(sub):
    return [message.data for message in sub.receive_batch(999, timeout=0)]


def test_the_second_publish_of_an_id_is_refused_whatever_became_of_the_first(remembering):
    sub = remembering.subscribe("t")
    remembering.publish("t", b"first", id="a")
    for _ in range(2):
        with pytest.raises(DuplicateMessage, match=r"this id was published on the topic [0-9.]+ s ago"):
            remembering.publish("t", os.urandom(5000), id="a")
    assert everything(sub) == [b"first"]
    with pytest.raises(DuplicateMessage):
        remembering.publish("t", b"again", id="a")
    assert everything(sub) == []


def test_ids_are_of_one_topic_and_messages_without_one_are_not_looked_at(remembering):
    sub = remembering.subscribe("#")
    remembering.publish("t", b"1", id="a")
    remembering.publish("u", b"2", id="a")
    remembering.publish("t", b"3", id="b")
    remembering.publish("t", b"4")
    remembering.publish("t", b"4")
    assert everything(sub) == [b"1", b"2", b"3", b"4", b"4"]


def test_an_id_that_nobody_receives_counts_as_published(remembering):
    remembering.publish("nobody", b"", id="a")
    with pytest.raises(DuplicateMessage):
        remembering.publish("nobody", b"", id="a")
    with remembering.transaction() as tx:
        tx.publish("nobody", b"", id="b")
        tx.publish("nobody", b"", id="c")
    for known in ("b", "c"):
        with pytest.raises(DuplicateMessage):
            remembering.publish("nobody", b"", id=known)


def test_a_publish_that_failed_leaves_its_id_free(remembering):
    remembering.create_group("g", "t", buffer_size=1, overflow="reject")
    sub = remembering.subscribe("t", group="g")
    remembering.publish("t", b"1", id="a")
    with pytest.raises(mqshm.QueueFull):
        remembering.publish("t", b"2", id="b")
    sub.receive().ack()
    remembering.publish("t", b"2", id="b")
    assert sub.receive().data == b"2"


def test_a_window_that_is_over_forgets(name):
    with mqshm.connect(name, config=Config(dedup_window=0.05)) as broker:
        broker.publish("t", b"", id="a")

        def free():
            try:
                return broker.publish("t", b"", id="a")
            except DuplicateMessage:
                return None

        until(free, "the end of the window")


def test_the_memory_of_ids_goes_back_when_their_window_is_over(name):
    with mqshm.connect(name, config=Config(dedup_window=LONG)) as broker:
        numbers = itertools.count()
        for _ in range(50_000):
            broker.publish("t", b"", id=str(next(numbers)))
        most = broker.memory_usage
        broker.update_config(dedup_window=0.05)

        def given_back():
            broker.publish("t", b"", id=str(next(numbers)))
            return broker.memory_usage < most - (2 << 20)

        until(given_back, "the memory of ids that are over")


def test_the_window_is_switched_on_and_off_while_the_broker_runs(broker):
    broker.publish("t", b"", id="a")
    broker.publish("t", b"", id="a")
    broker.update_config(dedup_window=LONG)
    broker.publish("t", b"", id="a")
    with pytest.raises(DuplicateMessage):
        broker.publish("t", b"", id="a")
    broker.update_config(dedup_window=0)
    broker.publish("t", b"", id="a")


def test_of_a_batch_what_comes_before_the_duplicate_is_in(remembering):
    sub = remembering.subscribe("t")
    with pytest.raises(DuplicateMessage) as raised:
        remembering.publish_batch("t", [Message(b"1", id="a"), Message(b"2"), Message(b"3", id="a"), Message(b"4")])
    messages = sub.receive_batch(10, timeout=0)
    assert [message.data for message in messages] == [b"1", b"2"]
    assert raised.value.sequence_numbers == [message.seq for message in messages]


def test_a_batch_with_what_is_no_message_publishes_nothing(remembering):
    sub = remembering.subscribe("t")
    with pytest.raises(TypeError, match="not int"):
        remembering.publish_batch("t", [Message(b"1", id="a"), 2])
    assert everything(sub) == []


def test_a_transaction_that_nobody_receives_counts_as_published(remembering):
    with remembering.transaction() as tx:
        tx.publish("nobody", b"", id="a")
    with pytest.raises(DuplicateMessage):
        remembering.publish("nobody", b"", id="a")


def test_a_transaction_with_one_duplicate_publishes_nothing(remembering):
    sub = remembering.subscribe("#")
    remembering.publish("t", b"1", id="a")
    for second in ({"id": "a"}, {"id": "b"}):
        with pytest.raises(DuplicateMessage), remembering.transaction() as tx:
            tx.publish("t", b"2", id="b")
            tx.publish("t", b"3", **second)
    assert everything(sub) == [b"1"]
    with remembering.transaction() as tx:
        tx.publish("t", b"2", id="b")
        tx.publish("u", b"3", id="b")
    assert everything(sub) == [b"2", b"3"]


def test_a_loan_of_a_known_id_is_refused_and_stays_the_callers(remembering):
    sub = remembering.subscribe("t")
    remembering.publish("t", b"1", id="a")
    loan = remembering.loan("t", nbytes=5, id="a")
    loan.view[:] = b"large"
    with pytest.raises(DuplicateMessage):
        loan.publish()
    assert bytes(loan.view) == b"large"
    loan.discard()
    with remembering.loan("t", nbytes=5, id="b") as loan:
        loan.view[:] = b"large"
    with pytest.raises(DuplicateMessage):
        remembering.publish("t", b"", id="b")
    assert everything(sub) == [b"1", b"large"]


def test_a_delayed_message_counts_from_its_publish(remembering):
    remembering.subscribe("t")
    remembering.publish("t", b"1", id="a", delay=LONG)
    with pytest.raises(DuplicateMessage):
        remembering.publish("t", b"2", id="a", delay=LONG)


def test_what_dies_and_is_replayed_is_no_duplicate_of_itself(remembering):
    remembering.create_group("g", "t", ack=mqshm.AckPolicy.REQUIRED, max_attempts=1)
    sub = remembering.subscribe("t", group="g")
    remembering.publish("t", b"1", id="a")
    sub.receive().reject("no good")
    assert len(remembering.dead_letters()) == 1
    assert remembering.replay_dead_letters() == 1
    message = sub.receive()
    assert (message.data, message.id) == (b"1", "a")
    message.ack()


def _race(name, start, ids, won):
    with mqshm.connect(name, create=False) as broker:
        start.wait()
        for number in range(ids):
            try:
                broker.publish("t", f"{os.getpid()}".encode(), id=str(number))
            except DuplicateMessage:
                continue
            won.put(number)


def test_of_processes_that_race_one_publishes_each_id(remembering):
    spawn, racers, ids = multiprocessing.get_context("spawn"), 3, 300
    start, won = spawn.Barrier(racers), spawn.Queue()
    remembering.create_group("g", "t", buffer_size=racers * ids)
    children = [spawn.Process(target=_race, args=(remembering.name, start, ids, won)) for _ in range(racers)]
    for child in children:
        child.start()
    winners = sorted(won.get(timeout=60) for _ in range(ids))
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert winners == list(range(ids)) and won.empty()
    got = [int(message.id) for message in remembering.subscribe("t", group="g").receive_batch(racers * ids, timeout=0)]
    assert sorted(got) == list(range(ids))


def _publish_and_be_killed(name, ids):
    with mqshm.connect(name, create=False) as broker:
        for number in range(ids):
            try:
                broker.publish("t", b"x" * 200, id=str(number))
            except DuplicateMessage:
                pass


def test_who_goes_on_for_one_that_was_killed_publishes_what_it_did_not(remembering):
    spawn, ids = multiprocessing.get_context("spawn"), 20_000
    remembering.create_group("g", "t", buffer_size=ids)
    sub = remembering.subscribe("t", group="g")
    first = spawn.Process(target=_publish_and_be_killed, args=(remembering.name, ids))
    first.start()
    until(lambda: remembering.stats().groups["g"].waiting > 50, "a start")
    first.kill()
    first.join()
    _publish_and_be_killed(remembering.name, ids)
    got = sorted(int(message.id) for message in sub.receive_batch(2 * ids, timeout=0))
    assert got == list(range(ids))
    remembering.fsck(repair=True)
