"""The compiled core: the only module that imports it. Checks that it fits, and turns its results into exceptions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from mqshm import errors
from mqshm.config import OVERFLOWS, Config

try:
    from mqshm._core import ffi as ffi
    from mqshm._core import lib as lib
except ImportError as error:
    raise ImportError(f"mqshm's compiled core does not load ({error}): install mqshm again with pip") from error

ABI = 4
if lib.mqshm_abi() != ABI:
    raise ImportError(
        f"mqshm's compiled core speaks ABI {lib.mqshm_abi()}, this Python code {ABI}: install mqshm again"
    )

PRIORITY_RINGS = 5
NEVER = (1 << 64) - 1
"""expires_ns of a message that does not expire, whatever the configuration says."""

ALREADY_SETTLED = -1
BROKER_CLOSED = -2
BAD_TOPIC = -3

_ERRORS: dict[int, tuple[type[errors.MQError], str]] = {
    ALREADY_SETTLED: (errors.AlreadySettled, "the message was settled before"),
    BROKER_CLOSED: (errors.BrokerClosed, "this Broker was closed: connect again"),
    BAD_TOPIC: (errors.InvalidTopic, "not a topic"),
    lib.MQSHM_FULL: (errors.QueueFull, "a subscription to this topic is full: receive from it, or enlarge buffer_size"),
    lib.MQSHM_NO_MEMORY: (errors.MemoryLimitExceeded, "no memory: raise max_memory_usage, or receive what waits"),
    lib.MQSHM_TOO_LARGE: (errors.MessageTooLarge, "the message is too large"),
    lib.MQSHM_LEASE_LOST: (errors.LeaseLost, "the lease ended before this; the message is delivered again"),
    lib.MQSHM_CLOSED: (errors.SubscriptionClosed, "the subscription was closed"),
    lib.MQSHM_CORRUPT: (errors.SegmentCorrupt, "the broker's memory is damaged: run `mqshm fsck`"),
    lib.MQSHM_VERSION: (errors.VersionMismatch, "the broker was made by another version of mqshm"),
    lib.MQSHM_TOO_MANY: (errors.LimitExceeded, "no more topics or subscriptions fit"),
    lib.MQSHM_INVALID: (errors.InvalidMessage, "an argument is not acceptable"),
    lib.MQSHM_EXISTS: (errors.InvalidConfig, "the group exists already"),
    lib.MQSHM_NOT_FOUND: (errors.GroupNotFound, "no such group"),
    lib.MQSHM_FORKED: (errors.ForkedHandle, "this belongs to the parent process: make one in the child"),
    lib.MQSHM_DUPLICATE: (errors.DuplicateMessage, "a message of this id was published within dedup_window"),
    lib.MQSHM_TIMEOUT: (errors.Timeout, "it took too long"),
}


def raise_result(code: int, reason: str = "", seqs: Sequence[int] | None = None) -> NoReturn:
    """The exception for a result that is not MQSHM_OK, with the core's own words where it gave any."""
    kind, sentence = _ERRORS.get(code, (errors.MQError, f"the core failed with result {code}"))
    error = kind(reason or sentence)
    if seqs:
        error.sequence_numbers = seqs
    raise error


def reason() -> str:
    """What the core says of this thread's last failure."""
    text: bytes = ffi.string(lib.mqshm_reason())
    return text.decode(errors="replace")


def check(code: int) -> None:
    if code != lib.MQSHM_OK:
        raise_result(code, reason())


TROUBLES = {
    lib.MQSHM_FULL: lib.MQSHM_TROUBLE_FULL,
    lib.MQSHM_NO_MEMORY: lib.MQSHM_TROUBLE_MEMORY,
    lib.MQSHM_LEASE_LOST: lib.MQSHM_TROUBLE_LEASE,
    lib.MQSHM_CORRUPT: lib.MQSHM_TROUBLE_CORRUPT,
    lib.MQSHM_TOO_MANY: lib.MQSHM_TROUBLE_OTHER,
    lib.MQSHM_SYSTEM: lib.MQSHM_TROUBLE_OTHER,
}
"""Results that say something of the broker, not of a mistake in the call: they are counted for its health."""

_TROUBLE_ERRORS = tuple(
    (_ERRORS[code][0] if code in _ERRORS else errors.MQError, kind) for code, kind in TROUBLES.items()
)


def trouble(error: errors.MQError) -> int | None:
    """As what the error is counted; None: it is not."""
    for kind, number in _TROUBLE_ERRORS:
        if isinstance(error, kind) and (kind is not errors.MQError or type(error) is kind):
            return int(number)
    return None


_MOST_NS = 1 << 62
_front: ModuleType | None = None


def front() -> ModuleType:
    """The module with Front, Receiver and Message: over the front in C where that is built, over cffi otherwise or
    where the environment has MQSHM_FRONT=0 at the first connect. Chosen once for the process."""
    global _front
    if _front is None:
        module = _choose_front()
        module.bind(int(ffi.cast("uintptr_t", lib.mqshm_front())), raise_result)
        os.register_at_fork(after_in_child=module.forked)
        _front = module
    return _front


def _choose_front() -> ModuleType:
    if os.environ.get("MQSHM_FRONT") != "0":
        try:
            return import_module("mqshm._fast")
        except ModuleNotFoundError:
            pass  # mqshm._front was not built
    return import_module("mqshm._plain")


def timeout_ns(timeout: float | None) -> int:
    """Nanoseconds as the core counts them: None is for ever, which is -1, and so is what the core cannot count to."""
    if timeout is None:
        return -1
    try:
        ns = timeout * 1e9
        if ns != ns:
            raise ValueError("timeout is a number of seconds, or None to wait for ever, not nan")
        return -1 if ns >= _MOST_NS else max(0, int(ns))
    except TypeError:
        raise TypeError(
            f"timeout is a number of seconds, or None to wait for ever, not {type(timeout).__name__}"
        ) from None


_MS_FIELDS = ("message_ttl", "default_ack_timeout", "transaction_timeout", "dedup_window", "health_check_interval")
_SAME_FIELDS = (
    "max_topics",
    "max_subscribers",
    "default_buffer_size",
    "max_message_size",
    "max_memory_usage",
    "max_attempts",
)
_SWITCHES = ("dead_letter_expired", "enable_metrics", "enable_priority_queue", "enable_trie_pattern")  # fmt: skip


def config_to_core(config: Config) -> Any:
    out = ffi.new("mqshm_config *")
    for name in (*_SAME_FIELDS, *_SWITCHES):
        setattr(out, name, int(getattr(config, name)))
    for name in _MS_FIELDS:
        setattr(out, name + "_ms", milliseconds(getattr(config, name)))
    out.overflow = OVERFLOWS.index(config.overflow)
    out.backoff_min_ms, out.backoff_max_ms = map(milliseconds, config.backoff)
    out.spin_ns = int(config.spin * 1e9)
    if config.dead_letter_topic is not None:
        topic = config.dead_letter_topic.encode()
        out.dead_letter_size = len(topic)
        ffi.memmove(out.dead_letter_topic, topic, len(topic))
    return out


def config_from_core(core: Any) -> Config:
    """The segment's configuration; SegmentCorrupt where a field is nothing that config_to_core writes."""
    try:
        size = core.dead_letter_size
        if size > len(core.dead_letter_topic):
            raise ValueError(f"dead_letter_size is {size}")
        return Config(
            **{name: getattr(core, name) for name in _SAME_FIELDS},
            **{name: bool(getattr(core, name)) for name in _SWITCHES},
            **{name: getattr(core, name + "_ms") / 1e3 for name in _MS_FIELDS},
            overflow=OVERFLOWS[core.overflow],
            backoff=(core.backoff_min_ms / 1e3, core.backoff_max_ms / 1e3),
            spin=core.spin_ns / 1e9,
            dead_letter_topic=bytes(ffi.buffer(core.dead_letter_topic, size)).decode() if size else None,
        )
    except (ValueError, IndexError) as error:
        raise errors.SegmentCorrupt(f"the broker's configuration is damaged: {error}") from None


def milliseconds(seconds: float) -> int:
    """Rounded up, so that a short time does not become none."""
    return -int(-seconds * 1000 // 1)
