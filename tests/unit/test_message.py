import pytest

from mqshm import InvalidMessage, Message, Priority
from mqshm.message import NORMAL_RING, ring_of


def test_there_are_five_priorities_and_the_highest_is_served_first():
    assert [int(each) for each in Priority] == [0, 10, 20, 30, 40]
    assert [ring_of(each) for each in (40, 30, 20, 10, 0)] == [0, 1, 2, 3, 4]
    assert ring_of(Priority.NORMAL) == NORMAL_RING


@pytest.mark.parametrize("priority", [5, -1, 41, "high", None])
def test_another_priority_is_refused(priority):
    with pytest.raises(InvalidMessage, match="priority"):
        Message(b"", priority=priority)


def test_a_message_takes_plain_numbers_for_priorities():
    assert Message(b"", priority=30).priority is Priority.HIGH


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x"), "x"])
def test_payloads_are_bytes_like_or_str(data):
    assert Message(data=data).data == data


@pytest.mark.parametrize("data", [1, None, {"a": 1}, object()])
def test_any_other_payload_is_a_type_error_that_says_what_to_do(data):
    with pytest.raises(TypeError, match=r"mqshm\.Queue.*pickle"):
        Message(data)


@pytest.mark.parametrize("fields", [{"id": ""}, {"id": "x" * 256}, {"key": ""}, {"ttl": -1}, {"delay": float("nan")}])
def test_an_option_that_is_not_acceptable_is_named(fields):
    with pytest.raises(InvalidMessage, match=next(iter(fields))):
        Message(b"", **fields)


@pytest.mark.parametrize("fields", [{"id": 7}, {"key": b"k"}, {"ttl": "5"}, {"delay": True}])
def test_an_option_of_another_type_is_a_type_error(fields):
    with pytest.raises(TypeError, match=next(iter(fields))):
        Message(b"", **fields)
