import dataclasses

import pytest

from mqshm.config import Config
from mqshm.errors import InvalidConfig


def test_the_fields_are_those_that_are_documented():
    listed = {
        "max_topics", "max_subscribers", "default_buffer_size", "message_ttl", "max_message_size", "max_memory_usage",
        "overflow", "default_ack_timeout", "max_attempts", "backoff", "transaction_timeout", "dead_letter_topic",
        "dead_letter_expired",
        "dedup_window", "health_check_interval", "enable_metrics", "enable_priority_queue", "enable_trie_pattern",
    }  # fmt: skip
    assert listed <= {field.name for field in dataclasses.fields(Config)}


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().max_topics = 1


def test_replace_gives_a_changed_copy():
    assert Config().replace(max_topics=3, message_ttl=1).max_topics == 3
    assert Config().max_topics == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"max_topics": -1},
        {"max_topics": 1.5},
        {"max_topics": True},
        {"default_buffer_size": 0},
        {"default_buffer_size": 1 << 24},
        {"message_ttl": -0.1},
        {"message_ttl": float("nan")},
        {"message_ttl": float("inf")},
        {"message_ttl": "5"},
        {"overflow": "explode"},
        {"backoff": 1.0},
        {"backoff": (5.0, 1.0)},
        {"backoff": (1.0,)},
        {"dead_letter_topic": ""},
        {"dead_letter_topic": "a.*"},
        {"enable_metrics": 1},
    ],
)
def test_a_field_that_is_not_acceptable_is_named(fields):
    with pytest.raises(InvalidConfig, match=next(iter(fields))) as raised:
        Config(**fields)
    assert isinstance(raised.value, ValueError)


def test_an_unknown_field_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidConfig, match=r"max_topix.*max_topics"):
        Config().replace(max_topix=1)


@pytest.mark.parametrize("field", ["name", "mode", "priorities", "buffer_size", "ack_timeout"])
def test_what_is_fixed_at_creation_says_so(field):
    with pytest.raises(InvalidConfig, match=f"^{field} cannot change while the broker is there: .+"):
        Config().replace(**{field: 1})


def test_backoff_may_be_any_pair():
    assert Config(backoff=[0, 1]).backoff == (0.0, 1.0)
