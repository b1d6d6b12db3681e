import gc

import numpy
import pytest

import mqshm


def test_what_is_written_to_a_loan_is_published(broker):
    sub = broker.subscribe("camera", group="g")
    with broker.loan("camera", shape=(4, 6), dtype="u2", id="frame", priority=40, headers={"n": 1}) as loan:
        loan.array[:] = numpy.arange(24).reshape(4, 6)
    message = sub.receive_nowait()
    assert message.seq == loan.seq
    assert (message.id, message.headers, int(message.priority)) == ("frame", {"n": 1}, 40)
    array = message.array("u2", (4, 6))
    assert (array == numpy.arange(24).reshape(4, 6)).all()
    assert not array.flags.writeable
    message.ack()


def test_a_loan_may_be_bytes(broker):
    sub = broker.subscribe("a")
    with broker.loan("a", nbytes=5) as loan:
        loan.view[:] = b"hello"
    assert sub.receive_nowait().data == b"hello"


def test_a_loan_is_given_back_on_an_exception(broker):
    sub = broker.subscribe("a")
    with pytest.raises(ZeroDivisionError), broker.loan("a", nbytes=100_000):
        raise ZeroDivisionError
    assert sub.receive_nowait() is None
    with pytest.raises(ZeroDivisionError), broker.loan("a", nbytes=100_000) as loan:
        raise ZeroDivisionError
    with pytest.raises(mqshm.AlreadySettled):
        loan.publish()


def test_a_loan_that_is_dropped_is_given_back(broker):
    loan = broker.loan("a", nbytes=1 << 20)
    used = broker.fsck().blocks_used
    del loan
    gc.collect()
    assert broker.fsck().blocks_used == used - 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, TypeError),
        ({"nbytes": 1, "shape": 1}, TypeError),
        ({"nbytes": 0}, mqshm.InvalidMessage),
        ({"nbytes": "1"}, TypeError),
    ],
)
def test_a_loan_without_a_size_is_refused(broker, options, error):
    with pytest.raises(error):
        broker.loan("a", **options)


def test_a_loan_for_a_full_subscription_waits(broker):
    sub = broker.subscribe("a", buffer_size=1)
    broker.publish("a", b"x")
    with pytest.raises(mqshm.QueueFull), broker.loan("a", nbytes=1000, timeout=0.05):
        pass
    assert sub.receive_nowait().data == b"x"
    assert sub.receive_nowait() is None


def test_views_of_a_loan_outlive_it_and_the_broker(name):
    broker = mqshm.connect(name)
    with broker.loan("a", nbytes=1000) as loan:
        array = loan.array
        array[:] = 7
    broker.close()
    del loan, broker
    gc.collect()
    assert array.sum() == 7000


def test_a_view_keeps_its_slot_after_the_ack(broker):
    sub = broker.subscribe("a", group="g", buffer_size=2)
    broker.publish("a", b"x" * 1000)
    message = sub.receive_nowait()
    view = message.view
    array = message.array("u1")
    message.ack()
    del message
    for n in range(50):
        broker.publish("a", bytes([n]) * 1000)
        sub.receive_nowait().ack()
    assert bytes(view) == b"x" * 1000
    assert set(array) == {ord("x")}
    assert view.readonly
    del view, array
    gc.collect()
    broker.publish_batch("a", [b"1", b"2"], timeout=0)


def test_a_view_under_a_lease_that_ends_is_a_copy(broker):
    sub = broker.subscribe("a", group="g", ack=mqshm.AckPolicy.TIMEOUT, ack_timeout=0.02)
    broker.publish("a", b"x" * 1000)
    held = sub.receive_nowait()
    view = held.view
    again = sub.receive(timeout=5.0)
    again.ack()
    broker.publish("a", b"y" * 1000)
    assert bytes(view) == b"x" * 1000
