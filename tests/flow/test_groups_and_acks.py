import gc
import multiprocessing
import pickle
import time

import pytest

import mqshm
from mqshm import AckPolicy
from tests.conftest import DEADLINE


@pytest.fixture
def group(broker):
    with broker.subscribe("jobs.*", group="workers", backoff=(0, 0)) as sub:
        yield sub


def test_a_group_shares_its_messages(broker):
    members = [broker.subscribe("jobs", group="workers") for _ in range(3)]
    broker.publish_batch("jobs", [bytes([n]) for n in range(30)])
    got = []
    for _ in range(10):
        for member in members:
            message = member.receive_nowait()
            got.append(message.data)
            message.ack()
    assert sorted(got) == [bytes([n]) for n in range(30)]


def test_messages_wait_for_the_first_member(broker):
    broker.create_group("billing", "orders.*", buffer_size=4096)
    broker.publish("orders.eu", b"x")
    assert broker.subscribe("orders.*", group="billing").receive_nowait().data == b"x"


def test_making_a_group_twice_is_making_it_once(broker):
    broker.create_group("g", ["a", "b"], max_attempts=3)
    broker.create_group("g", ["b", "a"], max_attempts=3)


@pytest.mark.parametrize("options", [{"buffer_size": 7}, {"ack": AckPolicy.TIMEOUT}, {"max_attempts": 1}])
def test_joining_a_group_with_other_options_is_refused(broker, options):
    broker.create_group("g", "a")
    with pytest.raises(mqshm.InvalidConfig, match="'g'"):
        broker.subscribe("a", group="g", **options)


def test_joining_a_group_with_other_patterns_is_refused(broker):
    broker.create_group("g", "a")
    with pytest.raises(mqshm.InvalidConfig, match="patterns a, not b"):
        broker.subscribe("b", group="g")


@pytest.mark.parametrize("group", ["", "x" * 256, "a\0b", "\ud800"])
def test_a_bad_name_of_a_group_is_refused(broker, group):
    with pytest.raises(mqshm.InvalidConfig):
        broker.create_group(group, "a")


def test_a_deleted_group_is_gone(broker):
    sub = broker.subscribe("a", group="g")
    broker.publish("a", b"x")
    broker.delete_group("g")
    with pytest.raises(mqshm.SubscriptionClosed):
        sub.receive(timeout=1.0)
    with pytest.raises(mqshm.GroupNotFound, match="'g'"):
        broker.delete_group("g")
    assert broker.subscribe("a", group="g").receive_nowait() is None


def test_an_acked_message_does_not_come_again(broker, group):
    broker.publish("jobs.a", b"x")
    group.receive_nowait().ack()
    assert group.receive_nowait() is None


def test_settling_twice_is_an_error(broker, group):
    broker.publish("jobs.a", b"x")
    message = group.receive_nowait()
    message.ack()
    for again in (message.ack, message.nack, message.reject, lambda: message.extend(1)):
        with pytest.raises(mqshm.AlreadySettled):
            again()


def test_a_nacked_message_comes_again_and_is_counted(broker, group):
    broker.publish("jobs.a", b"x", id="i")
    first = group.receive_nowait()
    first.nack()
    again = group.receive_nowait()
    assert (again.data, again.id, again.attempt, again.redelivered, again.seq) == (b"x", "i", 2, True, first.seq)
    again.ack()


def test_a_nack_may_be_delayed(broker, group):
    broker.publish("jobs.a", b"x")
    group.receive_nowait().nack(delay=0.1)
    assert group.receive_nowait() is None
    group.receive(timeout=5.0).ack()


def test_a_nack_backs_off_twice_as_long_each_time(broker):
    sub = broker.subscribe("a", group="g", backoff=(0.05, 10.0), max_attempts=0)
    broker.publish("a", b"x")
    waits = []
    for _ in range(3):
        sub.receive(timeout=5.0).nack()
        start = time.monotonic()
        message = sub.receive(timeout=5.0)
        waits.append(time.monotonic() - start)
        message.nack(delay=0)
    assert waits[0] >= 0.04
    assert waits[1] > waits[0]
    sub.receive(timeout=5.0).ack()


def test_what_is_rejected_or_not_requeued_does_not_come_again(broker, group):
    broker.publish_batch("jobs.a", [b"1", b"2"])
    group.receive_nowait().reject("no good")
    group.receive_nowait().nack(requeue=False)
    assert group.receive_nowait() is None
    assert broker.stats().groups["workers"].rejected == 2


def test_leaving_the_block_acks(broker, group):
    broker.publish("jobs.a", b"x")
    with group.receive_nowait() as message:
        assert message.data == b"x"
    assert message.settled
    assert group.receive_nowait() is None


def test_an_exception_in_the_block_nacks_and_goes_on(broker, group):
    broker.publish("jobs.a", b"x")
    with pytest.raises(ZeroDivisionError), group.receive_nowait():
        raise ZeroDivisionError
    again = group.receive_nowait()
    assert again.attempt == 2
    again.ack()


def test_settling_within_the_block_is_enough(broker, group):
    broker.publish("jobs.a", b"x")
    with group.receive_nowait() as message:
        message.ack()
    broker.publish("jobs.a", b"y")
    with pytest.raises(ZeroDivisionError), group.receive_nowait() as message:
        message.ack()
        raise ZeroDivisionError


def test_a_message_that_is_dropped_comes_again(broker, group):
    broker.publish("jobs.a", b"x")
    message = group.receive_nowait()
    del message
    gc.collect()
    again = group.receive(timeout=5.0)
    assert again.attempt == 2
    again.ack()


def test_a_batch_is_acked_at_once(broker, group):
    broker.publish_batch("jobs.a", [b"x"] * 20)
    messages = group.receive_batch(20)
    assert group.ack_batch(messages) == 20
    assert group.receive_nowait() is None


def test_a_message_is_settled_by_its_id(broker, group):
    broker.publish("jobs.a", b"1", id="one")
    broker.publish("jobs.a", b"2", id="two")
    held = group.receive_batch(2)
    broker.ack("jobs.a", "one")
    broker.nack("jobs.a", "two")
    again = group.receive(timeout=5.0)
    assert (again.id, again.attempt) == ("two", 2)
    with pytest.raises(mqshm.LeaseLost):
        held[0].ack()
    with pytest.raises(mqshm.LeaseLost, match="one"):
        broker.ack("jobs.a", "one")
    again.ack()


def open_two_large(broker, opened, leave):
    with broker.subscribe("other", buffer_size=100_000), broker.subscribe("other", buffer_size=100_000):
        broker.publish("other", b"x")
        opened.set()
        leave.wait()
    broker.close()


def test_an_id_is_not_looked_for_where_a_subscription_was(broker, run):
    """Its memory becomes another's, and its row a third one's: what this process knew of it is out of date."""

    def subscribe(topic):
        return broker.subscribe(topic, buffer_size=64, ack=AckPolicy.REQUIRED)

    opened, leave = (multiprocessing.get_context("spawn").Event() for _ in range(2))
    first, *others = [subscribe("a") for _ in range(3)]
    broker.publish("a", b"1", id="one")
    for sub in first, *others:
        sub.receive(timeout=5.0).ack()
    for sub in others:
        sub.close()
    other = run(open_two_large, broker, opened, leave)  # takes their rows; their memory is too small
    assert opened.wait(DEADLINE)
    first.close()
    with subscribe("none"), subscribe("b") as sub:  # in the memory of the first two
        broker.publish("b", b"2", id="two")
        message = sub.receive(timeout=5.0)
        broker.ack("b", "two")
        with pytest.raises(mqshm.LeaseLost):
            message.ack()
    leave.set()
    other.join()


def test_a_lease_with_a_timeout_ends(broker):
    sub = broker.subscribe("a", group="g", ack=AckPolicy.TIMEOUT, ack_timeout=0.05)
    broker.publish("a", b"x")
    held = sub.receive_nowait()
    again = sub.receive(timeout=5.0)
    assert again.attempt == 2
    with pytest.raises(mqshm.LeaseLost):
        held.ack()
    again.ack()


def test_a_message_may_bring_its_own_lease(broker):
    sub = broker.subscribe("a", group="g", ack=AckPolicy.TIMEOUT, ack_timeout=60.0)
    broker.publish("a", b"x", ack_timeout=0.05)
    held = sub.receive_nowait()
    again = sub.receive(timeout=5.0)
    assert again.attempt == 2
    again.ack()
    del held


def test_a_lease_can_be_extended(broker):
    sub = broker.subscribe("a", group="g", ack=AckPolicy.TIMEOUT, ack_timeout=0.1)
    broker.publish("a", b"x")
    held = sub.receive_nowait()
    held.extend(60.0)
    assert sub.receive(timeout=0.3) is None
    held.ack()


def test_prefetch_caps_what_is_held(broker):
    sub = broker.subscribe("a", group="g", prefetch=2)
    broker.publish_batch("a", [b"1", b"2", b"3"])
    first, second = sub.receive_nowait(), sub.receive_nowait()
    assert sub.receive_nowait() is None
    first.ack()
    third = sub.receive_nowait()
    assert third.data == b"3"
    second.ack()
    third.ack()


def test_messages_and_subscriptions_stay_in_their_process(broker, group):
    broker.publish("jobs.a", b"x")
    message = group.receive_nowait()
    with pytest.raises(TypeError):
        pickle.dumps(message)
    with pytest.raises(TypeError):
        pickle.dumps(group)
    message.ack()
