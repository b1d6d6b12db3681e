"""The rules for topics and patterns. The core checks topics again as it meets them; this gives the clear sentence.

A topic is 1 to 1024 characters: words separated by `.`, none of them empty, without control characters. In a pattern
the word `*` stands for exactly one word and `#` for zero or more.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mqshm.errors import InvalidTopic

MAX_CHARACTERS = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def validate_topic(topic: str) -> bytes:
    """The topic as UTF-8, or InvalidTopic."""
    if not isinstance(topic, str):  # before the cache, which takes only what has a hash
        raise TypeError(f"a topic is a str, not {type(topic).__name__}")
    return _validated_topic(topic)


@lru_cache(maxsize=1024)
def _validated_topic(topic: str) -> bytes:
    encoded = _validate(topic, "topic")
    if "*" in topic or "#" in topic:
        raise InvalidTopic(f"topic {_short(topic)}: `*` and `#` are for patterns; a message is published to one topic")
    return encoded


def validate_pattern(pattern: str) -> bytes:
    """The pattern as UTF-8, or InvalidTopic."""
    encoded = _validate(pattern, "pattern")
    for word in pattern.split("."):
        if len(word) > 1 and ("*" in word or "#" in word):
            raise InvalidTopic(
                f"pattern {_short(pattern)}: `*` and `#` stand for whole words, but one is a part of {_short(word)}"
            )
    return encoded


def _validate(text: str, what: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"a {what} is a str, not {type(text).__name__}")
    if not text:
        raise InvalidTopic(f"the {what} is empty; it needs 1 to {MAX_CHARACTERS} characters")
    if len(text) > MAX_CHARACTERS:
        raise InvalidTopic(f"{what} {_short(text)} has {len(text)} characters; {MAX_CHARACTERS} are allowed")
    if control := _CONTROL.search(text):
        raise InvalidTopic(f"{what} {_short(text)} has a control character, {control.group()!r}")
    if "" in text.split("."):
        raise InvalidTopic(f"{what} {_short(text)} has an empty word: a `.` at an end, or two in a row")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidTopic(f"{what} {_short(text)} is not Unicode text: {error.reason}") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
