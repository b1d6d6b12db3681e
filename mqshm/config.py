"""A broker's configuration: kept in its segment, the same for all its processes, changed at run time by any of them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from mqshm.errors import InvalidConfig, InvalidTopic
from mqshm.topics import validate_topic

OVERFLOWS = ("block", "reject", "drop_oldest", "drop_new", "drop_lowest")
MAX_BUFFER_SIZE = (1 << 24) - 1
MAX_SECONDS = 10.0 * 365 * 86400


@dataclass(frozen=True)
class Config:
    """0 means no limit. All fields can change while the broker is in use (`Broker.update_config`); what a
    subscription took from them when it was created stays as it was then."""

    max_topics: int = 0
    """Topics that may be published to, in number."""
    max_subscribers: int = 0
    """Subscriptions that may have the same pattern, in number."""
    default_buffer_size: int = 1024
    """Messages that a subscription holds where it does not say so itself: waiting, in flight and reserved."""
    message_ttl: float = 0.0
    """Seconds that a message lives where it does not say so itself."""
    max_message_size: int = 0
    """Bytes of one payload."""
    max_memory_usage: int = 0
    """Bytes of memory of the whole broker."""
    overflow: str = "block"
    """What a full subscription does where it does not say so itself: "block" lets the publisher wait, "reject" makes
    it fail, "drop_oldest" drops the message of the lowest priority that waited longest, "drop_new" the new one,
    "drop_lowest" that of the two whose priority is lower. At the memory limit the same holds for the whole broker."""
    default_ack_timeout: float = 30.0
    """Seconds that a lease lasts under AckPolicy.TIMEOUT where neither message nor group says so."""
    max_attempts: int = 5
    """Deliveries of one message after which it is given up, where the group does not say so itself."""
    backoff: tuple[float, float] = (0.1, 30.0)
    """Seconds before a message that was nacked is delivered again: after the first nack, and at most."""
    transaction_timeout: float = 30.0
    """Seconds that a transaction may take where it does not say so itself."""
    dead_letter_topic: str | None = None
    """Topic of what was given up; None is off."""
    dedup_window: float = 0.0
    """Seconds for which the id of a message is remembered, for each topic: another publish of the id within that time
    is a DuplicateMessage; 0 is off. Messages without an id are not looked at."""
    health_check_interval: float = 10.0
    """Seconds between two looks of the supervisor at the broker's health; 0: it does not look."""
    enable_metrics: bool = True
    """Whether traffic is counted."""
    enable_priority_queue: bool = True
    """Whether priorities have an effect; otherwise all messages are Priority.NORMAL."""
    enable_trie_pattern: bool = True
    """Whether patterns are found by an index; otherwise each is looked at."""
    spin: float = 50e-6
    """Seconds that a waiting consumer may look again and again before it sleeps: a message that comes within that
    time arrives in a microsecond, not in fifty. 0 never spins."""
    dead_letter_expired: bool = False
    """Whether a message whose time to live is over becomes a dead letter, besides being counted as expired."""

    def __post_init__(self) -> None:
        for name in ("max_topics", "max_subscribers", "max_message_size", "max_memory_usage", "max_attempts"):
            _integer(name, getattr(self, name), 0, (1 << 63) - 1)
        _integer("default_buffer_size", self.default_buffer_size, 1, MAX_BUFFER_SIZE)
        for name in (
            "message_ttl", "default_ack_timeout", "transaction_timeout", "dedup_window", "health_check_interval",
            "spin",
        ):  # fmt: skip
            seconds(name, getattr(self, name))
        for name in ("dead_letter_expired", "enable_metrics", "enable_priority_queue", "enable_trie_pattern"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidConfig(f"{name} is True or False, not {getattr(self, name)!r}")
        check_overflow(self.overflow)
        object.__setattr__(self, "backoff", check_backoff(self.backoff))
        if self.dead_letter_topic is not None:
            try:
                validate_topic(self.dead_letter_topic)
            except (InvalidTopic, TypeError) as error:
                raise InvalidConfig(f"dead_letter_topic: {error}") from None

    def replace(self, **changes: Any) -> Config:
        """A copy with these fields changed."""
        for name in changes.keys() & FIXED.keys():
            raise InvalidConfig(f"{name} cannot change while the broker is there: {FIXED[name]}")
        unknown = changes.keys() - FIELDS
        if unknown:
            raise InvalidConfig(f"no such field: {', '.join(sorted(unknown))}; there are {', '.join(sorted(FIELDS))}")
        return dataclasses.replace(self, **changes)


FIXED = {
    "name": "it is what processes find the broker by; make another one",
    "mode": "who may use it is said when it is made; chmod /dev/shm/mqshm.NAME for those who connect from now on",
    "buffer_size": "a group's is said when it is created; default_buffer_size is for those that come",
    "ack": "a group's is said when it is created; delete_group it first",
    "ack_timeout": "a group's is said when it is created; default_ack_timeout is for those that come",
    "patterns": "a group's are said when it is created; delete_group it first",
    "prefetch": "a group's is said when it is created; delete_group it first",
    "priorities": "there are five in every broker",
}
"""What one might look for among the fields, and is said once and for all."""

FIELDS = frozenset(field.name for field in dataclasses.fields(Config))


def check_overflow(value: str) -> str:
    if value not in OVERFLOWS:
        raise InvalidConfig(f"overflow is one of {', '.join(OVERFLOWS)}, not {value!r}")
    return value


def check_backoff(value: Any) -> tuple[float, float]:
    try:
        least, most = value
    except (TypeError, ValueError):
        raise InvalidConfig(f"backoff is a pair of seconds, (first, at most), not {value!r}") from None
    least, most = seconds("backoff[0]", least), seconds("backoff[1]", most)
    if least > most:
        raise InvalidConfig(f"backoff: the first delay, {least} s, is over the longest, {most} s")
    return least, most


def check_buffer_size(value: int) -> int:
    return _integer("buffer_size", value, 1, MAX_BUFFER_SIZE)


def check_count(name: str, value: int) -> int:
    return _integer(name, value, 0, (1 << 32) - 1)


def seconds(name: str, value: float) -> float:
    """The value as float, or InvalidConfig."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidConfig(f"{name} is a number of seconds, not {value!r}")
    if not math.isfinite(value) or not 0 <= value <= MAX_SECONDS:
        raise InvalidConfig(f"{name} is 0 to {MAX_SECONDS:.0f} seconds, not {value!r}")
    return float(value)


def _integer(name: str, value: int, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidConfig(f"{name} is an int, not {value!r}")
    if not least <= value <= most:
        raise InvalidConfig(f"{name} is {least} to {most}, not {value}")
    return value
