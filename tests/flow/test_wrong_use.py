"""What is called with something that it does not take says so: what it takes, and what it was given."""

import math
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

import mqshm
from mqshm import InvalidConfig, InvalidMessage, LeaseLost, SegmentCorrupt
from tests.conftest import until


@pytest.mark.parametrize("timeout", ["1", b"", [], object])
def test_a_timeout_that_is_no_number_is_named(broker, timeout):
    subscription = broker.subscribe("a")
    for call in (
        lambda: broker.publish("a", b"", timeout=timeout),
        lambda: broker.publish_batch("a", [b""], timeout=timeout),
        lambda: broker.loan("a", nbytes=1, timeout=timeout),
        lambda: mqshm.wait(subscription, timeout=timeout),
    ):
        with pytest.raises(TypeError, match="timeout is a number of seconds"):
            call()


def test_a_timeout_that_is_not_a_number_is_not_taken(broker):
    with pytest.raises(ValueError, match="timeout is"):
        broker.publish("a", b"", timeout=math.nan)
    with pytest.raises(ValueError, match="timeout is"):
        mqshm.wait(broker.subscribe("a"), timeout=math.nan)


@pytest.mark.parametrize("timeout", [math.inf, 1e99, 10**30])
def test_a_timeout_beyond_counting_is_for_ever(broker, timeout):
    subscription = broker.subscribe("a")
    broker.publish("a", b"x", timeout=timeout)
    broker.publish_batch("a", [b"x"], timeout=timeout)
    with broker.loan("a", nbytes=1, timeout=timeout):
        pass
    assert mqshm.wait(subscription, timeout=timeout) == [subscription]
    assert len(subscription.receive_batch(3, timeout=timeout)) == 3


@pytest.mark.parametrize("topic", [None, 5, b"a", []])
def test_a_topic_that_is_no_str_is_named(broker, topic):
    for call in (broker.publish, broker.publish_batch, broker.ack, broker.nack):
        with pytest.raises(TypeError, match="a topic is a str"):
            call(topic, [b""] if call == broker.publish_batch else "x")
    with pytest.raises(TypeError, match="a topic is a str"):
        broker.loan(topic, nbytes=1)


@pytest.mark.parametrize("patterns", [None, 5, b"a", [None], [[]]])
def test_patterns_that_are_no_list_of_str_are_named(broker, patterns):
    for call in (lambda: broker.subscribe_batch(patterns), lambda: broker.create_group("g", patterns)):
        with pytest.raises(TypeError, match=r"is a str|are a list of str"):
            call()


@pytest.mark.parametrize("messages", [None, 5, b"a", "a"])
def test_a_batch_that_is_no_list_is_named(broker, messages):
    with pytest.raises(TypeError, match="publish_batch takes a list of payloads"):
        broker.publish_batch("a", messages)


@pytest.mark.parametrize("headers", [[], "", 0, False])
def test_headers_that_are_no_mapping_are_named_also_where_they_are_empty(broker, headers):
    with pytest.raises(TypeError, match="headers are a mapping"):
        broker.publish("a", b"", headers=headers)


@pytest.mark.parametrize("id", [None, 5, b"x"])
def test_an_id_that_is_no_str_is_named(broker, id):
    for call in (broker.ack, broker.nack):
        with pytest.raises(TypeError, match="message_id is a str"):
            call("a", id)
    with pytest.raises(LeaseLost):
        broker.ack("a", "\udcff")


@pytest.mark.parametrize("options", [{"shape": 1.5}, {"shape": (2, None)}, {"shape": 2, "dtype": object}])
def test_a_loan_of_what_is_not_numbers_is_refused(broker, options):
    with pytest.raises(TypeError, match=r"shape is|dtype is"):
        broker.loan("a", **options)


@pytest.mark.parametrize("shape", [0, (), (-2, -3), (2, 0)])
def test_a_loan_has_at_least_one_byte(broker, shape):
    if shape == ():
        assert len(broker.loan("a", shape=shape).view) == 1  # numpy's array of no dimensions
    else:
        with pytest.raises(InvalidMessage, match="no dimension under 1"):
            broker.loan("a", shape=shape)


@pytest.mark.parametrize(("limit", "max_bytes"), [(-1, 1), (1, -1), ("1", 1), (1, None), (True, 1), (1, 1 << 70)])
def test_peek_takes_counts(broker, limit, max_bytes):
    broker.create_group("g", "a")
    with pytest.raises(InvalidConfig, match=r"limit is|max_bytes is"):
        broker.peek("g", limit, max_bytes=max_bytes)


def test_wait_takes_subscriptions(broker):
    with pytest.raises(TypeError, match="wait takes subscriptions"):
        mqshm.wait([broker.subscribe("a")], timeout=0)


def test_a_reason_is_a_str(broker):
    subscription = broker.subscribe("a", group="g")
    broker.publish("a", b"x")
    message = subscription.receive(timeout=5)
    with pytest.raises(TypeError, match="reason is a str"):
        message.reject(None)
    message.reject("it is")


def test_connect_checks_before_it_makes_anything(name):
    for options, error in (
        ({"mode": "rw"}, TypeError),
        ({"mode": -1}, InvalidConfig),
        ({"mode": 0o1777}, InvalidConfig),
        ({"observer": 5}, TypeError),
        ({"config": {}}, TypeError),
        ({"supervisor": "yes"}, InvalidConfig),
    ):
        with pytest.raises(error, match=next(iter(options))):
            mqshm.connect(name, **options)
    assert name not in mqshm.list_brokers()


def test_a_loan_stays_in_its_process(broker):
    with pytest.raises(TypeError, match="a Loan stays in its process"):
        pickle.dumps(broker.loan("a", nbytes=1))


def test_a_name_that_leads_to_no_file_is_no_broker(name):
    path = Path(f"/dev/shm/mqshm.{name}")
    for make, remove in ((path.mkdir, path.rmdir), (lambda: path.symlink_to("/nowhere"), path.unlink)):
        make()
        try:
            for create in (True, False):
                with pytest.raises(SegmentCorrupt, match="is not a file"):
                    mqshm.connect(name, create=create)
        finally:
            remove()


def test_removing_what_cannot_be_removed_names_it(name):
    path = Path(f"/dev/shm/mqshm.{name}")
    path.mkdir()
    try:
        with pytest.raises(OSError, match=name):
            mqshm.destroy(name)
    finally:
        path.rmdir()


def _refused(name, said):
    if os.getuid() == 0:
        os.setuid(65534)  # root may do everything
    try:
        mqshm.connect(name)
    except PermissionError as error:
        said.put(str(error))
    else:
        said.put("connected")


def test_who_may_not_use_a_broker_is_told_so(name):
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()
    mqshm.connect(name, mode=0).close()
    process = context.Process(target=_refused, args=(name, said))
    process.start()
    try:
        until(lambda: not said.empty(), "what the process says")
        assert "is not for this user" in said.get()
    finally:
        process.kill()
        process.join()
