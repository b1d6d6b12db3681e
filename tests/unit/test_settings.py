import dataclasses

import pytest

from mqshm.config import Config
from mqshm.errors import InvalidConfig
from mqshm.settings import field, load, merged, read, to_toml

FILE = """
max_memory_usage = "512MiB"
message_ttl = "200ms"
backoff = [0.5, "2min"]
dead_letter_topic = "dlq"
enable_metrics = false
max_topics = 7
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "broker.toml"
    path.write_text(FILE)
    return path


def test_a_file_is_read(file):
    config = load(file, {})
    assert config == Config(
        max_memory_usage=512 << 20, message_ttl=0.2, backoff=(0.5, 120.0), dead_letter_topic="dlq",
        enable_metrics=False, max_topics=7,
    )  # fmt: skip


def test_without_any_source_the_defaults_hold():
    assert load(None, {"HOME": "/", "MQSHM_FRONT": "0"}) == Config()


def test_flags_go_before_the_environment_and_that_before_the_file(file):
    environ = {"MQSHM_MAX_TOPICS": "8", "MQSHM_MESSAGE_TTL": "3"}
    config = load(file, environ, {"max_topics": "9", "max_subscribers": None})
    assert (config.max_topics, config.message_ttl, config.dead_letter_topic) == (9, 3.0, "dlq")


def test_each_field_can_be_said_in_the_environment():
    said = {
        "max_topics": "1", "max_subscribers": "2", "default_buffer_size": "3", "message_ttl": "4s",
        "max_message_size": "5k", "max_memory_usage": "6GiB", "overflow": "reject", "default_ack_timeout": "7",
        "max_attempts": "8", "backoff": "0.5,10", "transaction_timeout": "1h", "dead_letter_topic": "d.l",
        "dead_letter_expired": "no",
        "dedup_window": "11", "health_check_interval": "0.5", "enable_metrics": "no", "enable_priority_queue": "off",
        "enable_trie_pattern": "0", "spin": "20us",
    }  # fmt: skip
    assert said.keys() == {each.name for each in dataclasses.fields(Config)}
    config = merged({}, {f"MQSHM_{key.upper()}": text for key, text in said.items()}, {})
    assert config == Config(
        1, 2, 3, 4.0, 5 << 10, 6 << 30, "reject", 7.0, 8, (0.5, 10.0), 3600.0, "d.l", 11.0, 0.5, False, False, False,
        20e-6,
    )  # fmt: skip


def test_what_is_written_is_what_is_read_again(tmp_path):
    config = Config(
        max_memory_usage=1 << 40, message_ttl=0.125, overflow="drop_new", backoff=(0.0, 3.5),
        dead_letter_topic='a"b\\c', enable_metrics=False, spin=1e-6,
    )  # fmt: skip
    path = tmp_path / "written.toml"
    for each in (config, Config()):
        path.write_text(to_toml(each))
        assert load(path, {}) == each


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("max_topics", -1, "0 to"),
        ("max_topics", "many", "whole number"),
        ("max_topics", 1.5, "int"),
        ("max_memory_usage", "1 XiB", "512MiB"),
        ("max_memory_usage", "0.3k", "whole number of bytes"),
        ("message_ttl", "-1", "seconds"),
        ("message_ttl", "5 parsecs", "200ms"),
        ("message_ttl", True, "seconds"),
        ("overflow", "explode", "block, reject"),
        ("backoff", "1", "pair"),
        ("backoff", [5, 1], "over the longest"),
        ("enable_metrics", "maybe", "true or false"),
        ("enable_metrics", 1, "True or False"),
        ("dead_letter_topic", "a.*", "dead_letter_topic"),
        ("dead_letter_topic", 5, "dead_letter_topic"),
        ("max_topics", {}, "int"),
    ],
)
def test_a_bad_value_is_told_with_its_source_its_field_and_what_it_may_be(key, value, says):
    with pytest.raises(InvalidConfig) as raised:
        field(key, value, "here.toml")
    text = str(raised.value)
    assert text.startswith(f"here.toml: {key} = {value!r}: ")
    assert says in text
    assert "\n" not in text


def test_a_wrong_name_is_told_with_the_near_one():
    with pytest.raises(InvalidConfig, match=r"here: no field 'max_topix'; did you mean max_topics\?"):
        merged({}, {}, {"max_topix": 1}, "here")
    with pytest.raises(InvalidConfig, match="variable MQSHM_MAX_MEMORY: no field 'max_memory'; did you mean"):
        merged({}, {"MQSHM_MAX_MEMORY": "1"}, {})
    with pytest.raises(InvalidConfig, match="command line: no field 'zzz'; there are"):
        merged({"zzz": 1}, {}, {})


def test_a_file_that_is_not_there_or_not_toml_is_one_line(tmp_path):
    missing, broken, binary = tmp_path / "no.toml", tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("a = \n")
    binary.write_bytes(b"\xff\xfe")
    for path, says in ((missing, "No such file"), (broken, "line 1"), (binary, "UTF-8"), (tmp_path, "directory")):
        with pytest.raises(InvalidConfig) as raised:
            read(path)
        assert str(path) in str(raised.value)
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)
