"""Dead letters: what was given up, with why. They wait in a group of their own over the dead-letter topic, which is a
topic like any other.

The core writes them, by a commit that settles the message where it was: see csrc/flow/dead.c for the headers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mqshm.errors import DeadLetterDisabled, GroupNotFound, InvalidConfig
from mqshm.headers import HeaderValue
from mqshm.health import DEAD_LETTERS
from mqshm.message import AckPolicy, Delivery, Message, Priority
from mqshm.topics import validate_topic

if TYPE_CHECKING:
    from mqshm.broker import Broker
    from mqshm.upkeep import Peeked

GROUP = DEAD_LETTERS
_PREFIX = "dead."
_HELD = 1 << 16  # dead letters; the oldest go when more come
_ALL = (1 << 31) - 1


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up, copied."""

    reason: str
    """What its consumer said, or `max_attempts`, `rejected`, `expired`."""
    topic: str
    """Where it was published."""
    group: str
    """The group that gave it up; empty where that was a private subscription, or nobody."""
    attempts: int
    """Deliveries there."""
    first_at: float
    """When it was published, in seconds since 1970."""
    last_at: float
    """When it was given up, in seconds since 1970."""
    replays: int
    """How often it was put back on its topic before."""
    data: bytes
    size: int
    """Bytes of the whole payload."""
    seq: int
    """Its number as a dead letter."""
    id: str | None
    key: str | None
    priority: Priority
    headers: dict[str, HeaderValue]
    """Its own, as it was published with."""


@dataclass(frozen=True)
class DeadLetterStats:
    enabled: bool
    topic: str | None
    total_messages: int
    """Published on the dead-letter topic so far."""
    current_count: int
    """That wait to be looked at."""
    last_message_time: float | None
    """When the newest of those was given up, in seconds since 1970."""


def ensure(broker: Broker, topic: str | None) -> None:
    """The group that keeps them, where there is a dead-letter topic."""
    if topic is None:
        return
    try:
        _make(broker, topic)
    except InvalidConfig:  # of another topic
        if waiting(broker):
            raise InvalidConfig(
                f"the group {GROUP!r} holds dead letters of another topic: replay or purge them before "
                f"dead_letter_topic becomes {topic!r}"
            ) from None
        broker.delete_group(GROUP)
        _make(broker, topic)


def _make(broker: Broker, topic: str) -> None:
    broker.create_group(GROUP, topic, ack=AckPolicy.REQUIRED, buffer_size=_HELD, overflow="drop_oldest", max_attempts=0)


def topic_of(broker: Broker) -> str:
    topic = broker.config.dead_letter_topic
    if topic is None:
        raise DeadLetterDisabled("the broker has no dead_letter_topic: update_config(dead_letter_topic=...) sets one")
    return topic


def waiting(broker: Broker) -> int:
    found = broker.stats().groups.get(GROUP)
    return found.waiting + found.delayed if found else 0


def stats(broker: Broker) -> DeadLetterStats:
    topic = broker.config.dead_letter_topic
    now = broker.stats()
    group = now.groups.get(GROUP)
    counted = now.topics.get(topic) if topic else None
    last = max((each.last_at for each in browse(broker, _ALL, 0)), default=None) if group else None
    return DeadLetterStats(
        topic is not None, topic, counted.published if counted else 0,
        group.waiting + group.delayed if group else 0, last,
    )  # fmt: skip


def browse(broker: Broker, limit: int, max_bytes: int) -> list[DeadLetter]:
    try:
        return [_letter(peeked) for peeked in broker.peek(GROUP, limit, max_bytes=max_bytes)]
    except GroupNotFound:
        return []


def _letter(peeked: Peeked) -> DeadLetter:
    said = _said(peeked.headers)
    return DeadLetter(
        reason=str(said.get("reason", "published")),
        topic=str(said.get("topic", peeked.topic)),
        group=str(said.get("group", "")),
        attempts=_number(said.get("attempts")),
        first_at=_time(said.get("first"), peeked.published_at),
        last_at=_time(said.get("last"), peeked.published_at),
        replays=_number(said.get("replays")),
        data=peeked.data, size=peeked.size, seq=peeked.seq, id=peeked.id, key=peeked.key, priority=peeked.priority,
        headers=_own(peeked.headers),
    )  # fmt: skip


def _said(headers: dict[str, HeaderValue]) -> dict[str, HeaderValue]:
    return {name[len(_PREFIX) :]: value for name, value in headers.items() if name.startswith(_PREFIX)}


def _own(headers: dict[str, HeaderValue]) -> dict[str, HeaderValue]:
    return {name: value for name, value in headers.items() if not name.startswith(_PREFIX)}


def _number(value: HeaderValue) -> int:
    return value if isinstance(value, int) else 0


def _time(value: HeaderValue, default: float) -> float:
    return value if isinstance(value, float) else default


def publish(broker: Broker, topic: str, message: Any, reason: str) -> None:
    """A received message is acked where it was in the same step."""
    dead = topic_of(broker)
    validate_topic(topic)
    if not isinstance(reason, str):
        raise TypeError(f"reason is a str, not {type(reason).__name__}")
    received = isinstance(message, Delivery)
    given = message if isinstance(message, (Delivery, Message)) else Message(message)
    own = given.headers or {}
    first = message.published_at if received else time.time()
    said = {"reason": reason or "rejected", "topic": topic, "group": "", "attempts": message.attempt if received else 0,
            "first": first, "last": time.time()}  # fmt: skip
    headers = {**_own(dict(own)), **{_PREFIX + name: value for name, value in said.items()}}
    with broker.transaction() as tx:
        tx._put_back(dead, Message(given.data, given.id, given.priority, 0, None, headers, given.key))
        if received:
            tx.ack(message)


def replay(broker: Broker, limit: int | None, topic: str | None) -> int:
    """Each is put back and taken from the dead letters by one transaction. How many."""
    dead = topic_of(broker)
    if topic is not None:
        validate_topic(topic)
    if limit is not None and limit < 0:
        raise ValueError(f"limit is not negative, as {limit} is")
    replayed = 0
    others = []
    with broker.subscribe(dead, group=GROUP) as letters:
        for letter in _once(letters, waiting(broker)):
            if limit is not None and replayed >= limit:
                others.append(letter)
                break
            said = _said(letter.headers)
            own_topic = said.get("topic")
            if not isinstance(own_topic, str) or (topic is not None and own_topic != topic):
                others.append(letter)
                continue
            _put_back(broker, own_topic, letter, _number(said.get("replays")))
            replayed += 1
        for letter in others:
            letter.nack(delay=0)
    return replayed


def _once(letters: Any, count: int) -> Iterator[Delivery]:
    """Not what dies again meanwhile."""
    for _ in range(count):
        letter = letters.receive_nowait()
        if letter is None:
            return
        yield letter


def _put_back(broker: Broker, topic: str, letter: Delivery, replays: int) -> None:
    with broker.transaction() as tx:
        headers = {**_own(letter.headers), f"{_PREFIX}replays": replays + 1}
        tx._put_back(topic, Message(letter.data, letter.id, letter.priority, headers=headers, key=letter.key))
        tx.ack(letter)
