"""Subscriptions: where messages are received from."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mqshm import _native, aio
from mqshm._native import check, ffi, lib
from mqshm.config import OVERFLOWS, Config, check_backoff, check_buffer_size, check_count, check_overflow, seconds
from mqshm.errors import BrokerClosed, InvalidConfig, SubscriptionClosed
from mqshm.message import AckPolicy, Delivery, delivery_class, observed_delivery_class
from mqshm.observe import Watch, topic_of_message, topic_of_result
from mqshm.segment import Attachment

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_GROUP_BYTES = 255


@dataclass(frozen=True)
class Options:
    """How a subscription treats its messages. None: as the broker's configuration says when it is created."""

    ack: AckPolicy | None = None
    ack_timeout: float | None = None
    buffer_size: int | None = None
    overflow: str | None = None
    max_attempts: int | None = None
    backoff: tuple[float, float] | None = None
    prefetch: int | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "ack", None if self.ack is None else AckPolicy(self.ack))
        except ValueError:
            raise InvalidConfig(f"ack is a mqshm.AckPolicy, not {self.ack!r}") from None
        if self.ack_timeout is not None and not seconds("ack_timeout", self.ack_timeout):
            raise InvalidConfig("ack_timeout is over 0 seconds; AckPolicy.REQUIRED is for leases that do not end")
        if self.buffer_size is not None:
            check_buffer_size(self.buffer_size)
        if self.overflow is not None:
            check_overflow(self.overflow)
        if self.max_attempts is not None:
            check_count("max_attempts", self.max_attempts)
        if self.backoff is not None:
            object.__setattr__(self, "backoff", check_backoff(self.backoff))
        if self.prefetch is not None:
            check_count("prefetch", self.prefetch)

    def with_defaults(self, config: Config, shared: bool) -> Options:
        def given(value: Any, default: Any) -> Any:
            return default if value is None else value

        return Options(
            given(self.ack, AckPolicy.REQUIRED if shared else AckPolicy.NONE),
            given(self.ack_timeout, config.default_ack_timeout or None),
            given(self.buffer_size, config.default_buffer_size),
            given(self.overflow, config.overflow),
            given(self.max_attempts, config.max_attempts),
            given(self.backoff, config.backoff),
            self.prefetch,
        )

    def to_core(self, group: bytes | None, patterns: Sequence[bytes]) -> tuple[Any, list[Any]]:
        """For mqshm_sub_create, with what must be kept until it has returned. All fields are set: see with_defaults."""
        out = ffi.new("mqshm_sub_options *")
        texts = [ffi.from_buffer(pattern) for pattern in patterns]
        pointers, sizes = ffi.new("char *[]", texts), ffi.new("uint32_t[]", [len(pattern) for pattern in patterns])
        kept = [*texts, pointers, sizes]
        if group is not None:
            kept.append(ffi.from_buffer(group))
            out.name, out.name_size = kept[-1], len(group)
        out.patterns, out.pattern_sizes, out.pattern_count = pointers, sizes, len(patterns)
        for name, value in self.core_fields().items():
            setattr(out, name, value)
        return out, kept

    def core_fields(self) -> dict[str, int]:
        """The fields that are not None, as the core has them."""
        fields: dict[str, int] = {}
        if self.ack is not None:
            fields["ack"] = int(self.ack)
        if self.ack_timeout is not None:
            fields["ack_timeout_ms"] = _native.milliseconds(self.ack_timeout)
        if self.buffer_size is not None:
            fields["capacity"] = self.buffer_size
        if self.overflow is not None:
            fields["overflow"] = OVERFLOWS.index(self.overflow)
        if self.max_attempts is not None:
            fields["max_attempts"] = self.max_attempts
        if self.backoff is not None:
            fields["backoff_min_ms"], fields["backoff_max_ms"] = map(_native.milliseconds, self.backoff)
        if self.prefetch is not None:
            fields["prefetch"] = self.prefetch
        return fields


def group_name(group: str) -> bytes:
    """The group's name as UTF-8, or InvalidConfig."""
    if not isinstance(group, str):
        raise TypeError(f"a group's name is a str, not {type(group).__name__}")
    try:
        encoded = group.encode()
    except UnicodeEncodeError as error:
        raise InvalidConfig(f"group {group!r} is not Unicode text: {error.reason}") from None
    if not 1 <= len(encoded) <= _GROUP_BYTES or b"\0" in encoded:
        raise InvalidConfig(f"group {group[:40]!r}: 1 to {_GROUP_BYTES} bytes of UTF-8 without NUL, not {len(encoded)}")
    return encoded


class Subscription:
    """What arrives on some patterns, for this process alone or for the members of a group between them.

    It is pulled: nothing is handed out ahead of a receive. Made by `Broker.subscribe`.
    """

    if TYPE_CHECKING:

        def receive(self, timeout: float | None = None) -> Delivery | None:
            """The next message, the highest priority first; None when none came for `timeout` seconds (None: waits for
            ever)."""

        def receive_nowait(self) -> Delivery | None:
            """The next message, or None where nothing waits."""

        def receive_batch(self, max: int, timeout: float | None = None) -> list[Delivery]:
            """1 to `max` messages as soon as there is one; none when none came for `timeout` seconds."""

        def ack_batch(self, messages: Sequence[Delivery]) -> int:
            """Acks them all and returns how many leases were still held."""

    def __init__(
        self, attachment: Attachment, front_module: Any, front: Any, core: Any, patterns: Sequence[str],
        group: str | None, ack: AckPolicy, watch: Watch | None,
    ) -> None:  # fmt: skip
        self.patterns = tuple(patterns)
        self.group = group
        self.ack_policy = ack
        cls = delivery_class(front_module) if watch is None else observed_delivery_class(front_module, watch)
        receiver = front_module.Receiver(front, int(ffi.cast("uintptr_t", core)), int(ack), cls)
        # Its own methods in the place of those declared above: one call less on a message's path.
        self.receive = receiver.receive  # type: ignore[method-assign]
        self.receive_nowait = receiver.receive_nowait  # type: ignore[method-assign]
        self.receive_batch = receiver.receive_batch  # type: ignore[method-assign]
        self.ack_batch = receiver.ack_batch  # type: ignore[method-assign]
        if watch is not None:
            for name in ("receive", "receive_nowait", "receive_batch", "receive_async"):
                setattr(self, name, watch.observed(name, getattr(self, name), topic_of_result))
            self.ack_batch = watch.observed("ack_batch", receiver.ack_batch, topic_of_message)  # type: ignore[method-assign]
        self._receiver = receiver
        self._attachment = attachment
        self._core = core
        # It ends when nothing can receive from it any more, nor holds a message of it.
        self._end = weakref.finalize(receiver, _end, attachment, core, group is None, os.getpid())
        self._end.atexit = False  # the attachment's end ends it too
        if group is None:
            attachment.private.add(receiver)

    @property
    def closed(self) -> bool:
        return not self._end.alive

    def close(self) -> None:
        """Ends a private subscription and what waits in it; leaves a group, which keeps its messages. Idempotent."""
        self._receiver.close(lib.MQSHM_CLOSED)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Delivery]:
        """Each next message; ends at close()."""
        receive: Callable[[], Any] = self.receive
        while True:
            try:
                yield receive()
            except (SubscriptionClosed, BrokerClosed):
                if self.closed:
                    return
                raise

    async def receive_async(self, timeout: float | None = None) -> Delivery | None:
        """As `receive`, for asyncio: the loop goes on meanwhile. A cancelled call has taken no message."""
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            message: Delivery | None = self._receiver.receive_nowait()
            if message is not None:
                return message
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                return None
            await aio.message_may_be_there(self._attachment, self._receiver, self._core, left)

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        while True:
            try:
                message = await self.receive_async()
            except (SubscriptionClosed, BrokerClosed):
                if self.closed:
                    return
                raise
            if message is not None:
                yield message

    def __repr__(self) -> str:
        name = "private" if self.group is None else f"group {self.group!r}"
        return f"<Subscription {name} {' '.join(self.patterns)}{' closed' if self.closed else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Subscription stays in its process: pass the Broker to the child and subscribe there")


def _end(attachment: Attachment, core: Any, private: bool, pid: int) -> None:
    if attachment.pid != os.getpid() or (private and pid != os.getpid()):
        return  # a forked child: the subscription is the parent's
    try:
        with attachment.use() as handle:
            lib.mqshm_sub_close(core)
            lib.mqshm_ring_bell(handle)
    except BrokerClosed:
        pass  # it went with the attachment


def wait(*subscriptions: Subscription, timeout: float | None = None) -> list[Subscription]:
    """Waits until one of the subscriptions, all of one broker, may have a message, and returns those that may: another
    consumer can be faster, so receive from them without waiting. Empty after `timeout` seconds."""
    if not subscriptions:
        raise ValueError("wait needs a subscription")
    for each in subscriptions:
        if not isinstance(each, Subscription):
            raise TypeError(f"wait takes subscriptions, not {type(each).__name__}")
    attachment = subscriptions[0]._attachment
    if any(subscription._attachment is not attachment for subscription in subscriptions):
        raise ValueError("wait needs subscriptions of one broker")
    ends = None if timeout is None else time.monotonic_ns() + _native.timeout_ns(timeout)
    with attachment.use() as handle:
        cores = ffi.new("mqshm_sub_t *[]", [subscription._core for subscription in subscriptions])
        while True:
            for subscription in subscriptions:
                if subscription._receiver.closed:
                    raise SubscriptionClosed(f"{subscription!r} is closed")
            left = -1 if ends is None else max(0, ends - time.monotonic_ns())
            code = lib.mqshm_wait(handle, cores, len(subscriptions), left)
            if code == lib.MQSHM_OK:
                ready = [each for each in subscriptions if _may_have(handle, each._core)]
                if ready:
                    return ready
            elif code not in (lib.MQSHM_TIMEOUT, lib.MQSHM_INTERRUPTED):
                check(code)
            if left == 0:
                return []


def _may_have(handle: Any, core: Any) -> bool:
    one = ffi.new("mqshm_sub_t *[1]", [core])
    return bool(lib.mqshm_wait(handle, one, 1, 0) == lib.MQSHM_OK)
