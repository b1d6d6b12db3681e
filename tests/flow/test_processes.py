"""Several processes, of which some are killed, stopped or forked."""

import os
import pickle
import signal
import time

import pytest

import mqshm
from tests.conftest import until


def echo(broker, count):
    with broker, broker.subscribe("there", group="there") as sub:
        for _ in range(count):
            with sub.receive(timeout=20.0) as message:
                broker.publish("back", message.data)


def test_a_broker_passed_to_a_child_works_there(broker, run, start_method):
    broker.create_group("there", "there")
    back = broker.subscribe("back")
    child = run(echo, broker, 10, method=start_method)
    broker.publish_batch("there", [bytes([n]) for n in range(10)])
    assert sorted(back.receive(timeout=20.0).data for _ in range(10)) == [bytes([n]) for n in range(10)]
    child.join(20.0)
    assert child.exitcode == 0


def test_a_broker_pickles_as_its_name(broker):
    copy = pickle.loads(pickle.dumps(broker))
    assert copy.name == broker.name
    copy.close()
    mqshm.destroy(broker.name)
    with pytest.raises(mqshm.BrokerNotFound):
        pickle.loads(pickle.dumps(broker))


def hold(broker, counted):
    sub = broker.subscribe("a", group="g")
    held = [sub.receive(timeout=20.0) for _ in range(counted)]
    broker.publish("held", b"")
    time.sleep(60)
    del held


@pytest.mark.parametrize("counted", [1, 50])
def test_what_a_killed_process_held_is_delivered_again(broker, run, counted):
    sub = broker.subscribe("a", group="g")
    ready = broker.subscribe("held")
    broker.publish_batch("a", [bytes([n]) for n in range(counted)])
    victim = run(hold, broker, counted)
    assert ready.receive(timeout=20.0) is not None
    assert sub.receive_nowait() is None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    again = []
    while len(again) < counted:
        message = sub.receive(timeout=20.0)
        assert message.attempt == 2
        again.append(message.data)
        message.ack()
    assert sorted(again) == [bytes([n]) for n in range(counted)]
    until(lambda: len(broker.stats().peers) == 1, "the end of the dead peer")


def test_a_stopped_process_keeps_what_it_holds(broker, run):
    sub = broker.subscribe("a", group="g")
    ready = broker.subscribe("held")
    broker.publish("a", b"x")
    victim = run(hold, broker, 1)
    assert ready.receive(timeout=20.0) is not None
    os.kill(victim.pid, signal.SIGSTOP)
    assert sub.receive(timeout=0.5) is None
    os.kill(victim.pid, signal.SIGKILL)
    assert sub.receive(timeout=20.0).attempt == 2
    victim.join()


def subscribe_and_die(broker):
    broker.subscribe("a", buffer_size=1)
    broker.publish("ready", b"")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_private_subscription_ends_with_its_process_and_holds_up_nobody(broker, run):
    ready = broker.subscribe("ready")
    victim = run(subscribe_and_die, broker)
    assert ready.receive(timeout=20.0) is not None
    victim.join()
    for _ in range(5):
        broker.publish("a", b"x", timeout=20.0)
    until(lambda: len(broker.stats().private) == 1, "the end of the subscription")


def forked(target):
    """Exit code of a fork that runs the function: 0 where nothing was raised."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            target()
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_handle_carried_through_a_fork_works_in_the_child(broker):
    sub = broker.subscribe("a")
    group = broker.subscribe("b", group="g")
    broker.publish("b", b"to the child")

    def child():
        broker.publish("a", b"from the child")
        with group.receive(timeout=5.0) as message:
            assert message.data == b"to the child"
        own = broker.subscribe("c")
        broker.publish("c", b"x")
        assert own.receive_nowait().data == b"x"
        assert len(broker.stats().peers) == 2
        broker.close()

    assert forked(child) == 0
    assert sub.receive_nowait().data == b"from the child"
    assert group.receive_nowait() is None


def test_a_childs_first_look_for_a_batch_is_a_list(broker):
    group = broker.subscribe("a", group="g")

    def child():
        assert group.receive_batch(10, timeout=0) == []
        broker.close()

    assert forked(child) == 0


def test_what_is_the_parents_stays_the_parents(broker):
    private = broker.subscribe("a")
    group = broker.subscribe("b", group="g")
    broker.publish("b", b"x")
    held = group.receive_nowait()
    loan = broker.loan("a", nbytes=10)

    def child():
        for use in (held.ack, held.nack, loan.publish):
            with pytest.raises(mqshm.ForkedHandle):
                use()
        broker.publish("c", b"")
        with pytest.raises(mqshm.ForkedHandle):
            private.receive_nowait()
        with pytest.raises(mqshm.ForkedHandle):
            held.ack()

    assert forked(child) == 0
    held.ack()
    loan.publish()
    assert private.receive_nowait() is not None


def test_a_child_that_does_nothing_takes_nothing_away(broker):
    sub = broker.subscribe("a")
    group = broker.subscribe("b", group="g")
    broker.publish("b", b"x")
    held = group.receive_nowait()

    def child():
        nonlocal held, group, sub
        del held, group, sub
        broker.close()

    assert forked(child) == 0
    assert [peer.pid for peer in broker.stats().peers] == [os.getpid()]
    broker.publish("a", b"y")
    assert sub.receive_nowait().data == b"y"
    held.ack()


def publish_many(broker, who, count):
    with broker:
        for n in range(count):
            broker.publish("a", f"{who} {n}")


def test_each_producers_order_is_kept(broker, run):
    sub = broker.subscribe("a", buffer_size=64)
    for who in range(3):
        run(publish_many, broker, who, 500)
    last = {}
    for _ in range(1500):
        who, n = map(int, sub.receive(timeout=20.0).data.split())
        assert n == last.get(who, -1) + 1
        last[who] = n


def test_ctrl_c_ends_a_receive_at_once(broker):
    sub = broker.subscribe("a")
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            sub.receive()
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert time.monotonic() - start < 1.0
