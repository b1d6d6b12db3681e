"""Several messages and acks that happen together or not at all."""

import gc
import os
import threading

import pytest

import mqshm
from mqshm import AckPolicy, Message
from tests.conftest import until

LARGE = os.urandom(100_000)


def everything(sub):
    return [message.data for message in sub.receive_batch(99, timeout=0)]


def test_nothing_is_seen_of_a_transaction_before_its_commit(broker):
    one, two = broker.subscribe("one"), broker.subscribe("#")
    with broker.transaction() as tx:
        tx.publish("one", b"a", priority=40, headers={"h": 1}, id="i", key="k")
        tx.publish("two.words", LARGE)
        tx.publish("one", "é")
        assert one.receive_nowait() is None and two.receive_nowait() is None
    assert tx.state == "committed" and tx.sequence_numbers == sorted(tx.sequence_numbers)
    first = one.receive_nowait()
    assert (first.data, first.headers, first.id, first.key, first.topic) == (b"a", {"h": 1}, "i", "k", "one")
    assert first.seq == tx.sequence_numbers[0] and first.priority == 40
    assert everything(one) == ["é".encode()]
    got = two.receive_batch(9)
    assert [(m.topic, m.data) for m in got] == [("one", b"a"), ("two.words", LARGE), ("one", "é".encode())]
    assert [m.seq for m in got] == tx.sequence_numbers
    del got, first
    gc.collect()
    assert broker.fsck().blocks_used == 0


def test_an_exception_rolls_back(broker):
    sub = broker.subscribe("t")
    with pytest.raises(KeyError), broker.transaction() as tx:
        tx.publish("t", b"a")
        raise KeyError
    assert tx.state == "rolled back" and everything(sub) == []
    with broker.transaction() as tx:
        tx.publish("t", b"a")
        tx.rollback()
    assert everything(sub) == []


def test_what_is_received_and_what_is_made_of_it_go_together(broker):
    work = broker.subscribe("work", group="g")
    done = broker.subscribe("done")
    for data in (b"small", LARGE):
        broker.publish("work", data)
        message = work.receive(timeout=5)
        with broker.transaction() as tx:
            tx.publish("done", message.data.upper() if data == b"small" else data)
            tx.ack(message)
            assert not message.settled
        assert message.settled and done.receive(timeout=5) is not None
        with pytest.raises(mqshm.AlreadySettled):
            message.ack()
    assert work.receive_nowait() is None
    assert broker.stats().groups["g"].settled == 2
    del message
    gc.collect()
    assert broker.fsck().slots_used == 0


def test_after_a_rollback_messages_are_leased_as_before(broker):
    work = broker.subscribe("work", group="g")
    broker.publish("work", b"a")
    message = work.receive(timeout=5)
    with pytest.raises(ZeroDivisionError), broker.transaction() as tx:
        tx.ack(message)
        raise ZeroDivisionError
    assert not message.settled and work.receive_nowait() is None
    message.ack()
    assert work.receive_nowait() is None


def test_a_lost_lease_takes_all_of_the_transaction_with_it(broker):
    sub = broker.subscribe("out")
    timed = broker.subscribe("in", group="t", ack=AckPolicy.TIMEOUT, ack_timeout=0.05, backoff=(0, 0))
    kept = broker.subscribe("in", group="kept")
    broker.publish("in", b"a")
    first, other = timed.receive(timeout=5), kept.receive(timeout=5)
    again = timed.receive(timeout=5)
    assert again.attempt == 2
    tx = broker.transaction()
    tx.publish("out", b"x")
    tx.ack(other)
    tx.ack(first)
    with pytest.raises(mqshm.LeaseLost):
        tx.commit()
    assert tx.state == "rolled back" and everything(sub) == []
    other.ack()
    assert kept.receive_nowait() is None


def test_payloads_that_are_looked_at_stay_after_the_commit(broker):
    group = broker.subscribe("t", group="g")
    broker.publish("t", LARGE)
    message = group.receive(timeout=5)
    view = message.view
    with broker.transaction() as tx:
        tx.ack(message)
    assert view == LARGE and broker.fsck().blocks_used == 1
    view.release()
    del view, message
    gc.collect()
    assert broker.fsck().blocks_used == 0
    broker.publish("t", LARGE)
    message = group.receive(timeout=5)
    with broker.transaction() as tx:
        tx.ack(message)
    assert message.data == LARGE  # read after it was acked
    del message
    gc.collect()
    assert broker.fsck().blocks_used == 0


def test_by_id(broker):
    sub = broker.subscribe("#")
    broker.begin("tx-1")
    broker.publish("a", b"1", tx="tx-1")
    broker.publish("b", Message(b"2", priority=40), tx="tx-1")
    assert everything(sub) == []
    assert len(broker.commit("tx-1")) == 2
    assert everything(sub) == [b"2", b"1"]
    with pytest.raises(mqshm.TransactionCommitted):
        broker.commit("tx-1")
    with pytest.raises(mqshm.TransactionNotFound):
        broker.publish("a", b"", tx="tx-2")
    broker.begin("tx-2")
    broker.publish("a", b"1", tx="tx-2")
    with pytest.raises(mqshm.InvalidMessage, match="under way"):
        broker.begin("tx-2")
    broker.rollback("tx-2")
    with pytest.raises(mqshm.TransactionRolledBack):
        broker.publish("a", b"", tx="tx-2")
    assert everything(sub) == []


def test_one_that_takes_too_long_is_rolled_back(broker):
    sub = broker.subscribe("t")
    broker.begin("late", timeout=0)
    for _ in range(2):
        with pytest.raises(mqshm.TransactionTimeout):
            broker.publish("t", b"a", tx="late")
        with pytest.raises(mqshm.TransactionTimeout):
            broker.commit("late")
    tx = broker.transaction(timeout=0.5)
    tx.publish("t", b"a")
    until(lambda: tx.state == "timed out")
    with pytest.raises(mqshm.TransactionTimeout):
        tx.commit()
    with pytest.raises(mqshm.TransactionTimeout), broker.transaction(timeout=0.01) as tx:
        until(lambda: tx.state == "timed out")
    assert everything(sub) == []
    assert broker.update_config(transaction_timeout=0.01).transaction_timeout == 0.01
    assert broker.transaction().timeout == 0.01


def test_it_waits_for_room_in_all_of_its_subscriptions(broker):
    small = broker.subscribe("small", buffer_size=2)
    roomy = broker.subscribe("roomy")
    broker.publish("small", b"0")
    with pytest.raises(mqshm.TransactionTimeout), broker.transaction(timeout=0.05) as tx:
        tx.publish("roomy", b"r")
        tx.publish("small", b"1")
        tx.publish("small", b"2")
    assert everything(roomy) == [] and tx.state == "timed out"
    tx = broker.transaction(timeout=10)
    for number in range(2):
        tx.publish("small", b"%d" % number)
    committing = threading.Thread(target=tx.commit)
    committing.start()
    assert small.receive(timeout=5).data == b"0"
    committing.join(10)
    assert tx.state == "committed" and everything(small) == [b"0", b"1"]


def test_a_subscription_that_rejects_rolls_it_back(broker):
    broker.create_group("full", "t", buffer_size=1, overflow="reject")
    other = broker.subscribe("o")
    with pytest.raises(mqshm.QueueFull), broker.transaction() as tx:
        tx.publish("o", b"")
        tx.publish("t", b"1")
        tx.publish("t", b"2")
    assert tx.state == "rolled back" and everything(other) == []


def test_delays_and_times_to_live_hold(broker):
    sub = broker.subscribe("t")
    with broker.transaction() as tx:
        tx.publish("t", b"gone", ttl=1e-9)
        tx.publish("t", b"later", delay=0.05)
        tx.publish("t", b"now")
    assert sub.receive(timeout=5).data == b"now"
    assert sub.receive(timeout=5).data == b"later"


def test_an_empty_one_and_one_that_nobody_receives(broker):
    with broker.transaction() as tx:
        pass
    assert tx.sequence_numbers == []
    with broker.transaction() as tx:
        tx.publish("nobody", b"a")
    assert len(tx.sequence_numbers) == 1
    assert broker.stats().topics["nobody"].published == 1


def test_what_is_wrong_is_said_at_once(broker, name):
    sub = broker.subscribe("t", group="g")
    tx = broker.transaction()
    with pytest.raises(mqshm.InvalidTopic):
        tx.publish("a..b", b"")
    with pytest.raises(TypeError, match="pickle"):
        tx.publish("a", object())
    with pytest.raises(TypeError, match="received message"):
        tx.ack(b"")
    with pytest.raises(mqshm.InvalidMessage):
        broker.begin("")
    with pytest.raises(mqshm.InvalidConfig):
        broker.transaction(timeout=-1)
    broker.publish("t", b"a")
    message = sub.receive(timeout=5)
    message.ack()
    tx.ack(message)
    with pytest.raises(mqshm.AlreadySettled):
        tx.commit()
    with mqshm.connect(f"{name}-other") as other:
        try:
            theirs = other.subscribe("t", group="g")
            other.publish("t", b"a")
            with pytest.raises(mqshm.InvalidMessage, match="another broker"), broker.transaction() as tx:
                tx.ack(theirs.receive(timeout=5))
        finally:
            mqshm.destroy(f"{name}-other")


def _use_in_child(tx):
    try:
        tx.publish("t", b"child")
    except mqshm.ForkedHandle:
        os._exit(7)
    os._exit(0)


def test_a_forked_child_cannot_use_its_parents(broker):
    tx = broker.transaction()
    pid = os.fork()
    if pid == 0:
        _use_in_child(tx)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_subscription_that_drops_the_new_one_goes_without(broker):
    sub = broker.subscribe("t", buffer_size=1, overflow="drop_new")
    broker.publish("t", b"0")
    with broker.transaction() as tx:
        tx.publish("t", b"1")
        tx.publish("t", b"2")
    assert len(tx.sequence_numbers) == 2
    assert everything(sub) == [b"0"] and broker.stats().private[0].dropped == 2
    assert broker.fsck().blocks_used == 0
