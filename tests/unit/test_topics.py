import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqshm.errors import InvalidTopic, MQError
from mqshm.topics import validate_pattern, validate_topic


@pytest.mark.parametrize("topic", ["a", "orders.eu", "a.b.c", "Grüße.日本", "a b", "x" * 1024, "日" * 1024, "-_/:"])
def test_a_topic_of_words_is_taken_as_utf8(topic):
    assert validate_topic(topic) == topic.encode()


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("", "empty"),
        ("x" * 1025, "1025 characters"),
        (".a", "empty word"),
        ("a.", "empty word"),
        ("a..b", "empty word"),
        ("a\nb", "control character"),
        ("a\0", "control character"),
        ("a.*", "patterns"),
        ("#", "patterns"),
        ("\ud800", "Unicode"),
    ],
)
def test_what_is_no_topic_is_refused_with_the_reason(topic, says):
    with pytest.raises(InvalidTopic, match=says) as raised:
        validate_topic(topic)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, MQError)


@pytest.mark.parametrize("pattern", ["*", "#", "a.*", "a.#.b", "*.*", "a"])
def test_wildcards_are_whole_words_of_a_pattern(pattern):
    assert validate_pattern(pattern) == pattern.encode()


@pytest.mark.parametrize("pattern", ["a*", "*a.b", "a.##", "a.b#", ""])
def test_a_wildcard_within_a_word_is_refused(pattern):
    with pytest.raises(InvalidTopic):
        validate_pattern(pattern)


@pytest.mark.parametrize("topic", [None, b"a", 1])
def test_a_topic_that_is_no_str_is_a_type_error(topic):
    with pytest.raises(TypeError, match=type(topic).__name__):
        validate_topic(topic)


@given(st.text())
def test_any_text_is_a_topic_or_is_refused(text):
    try:
        assert validate_topic(text).decode() == text
    except InvalidTopic:
        pass
