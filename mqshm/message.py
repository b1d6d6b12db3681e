"""Messages: `Message` is one prepared for publishing, `Delivery` one that was received."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from mqshm import _native, headers
from mqshm.errors import InvalidMessage
from mqshm.headers import Headers, HeaderValue
from mqshm.observe import Watch, topic_of_message

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Buffer, Self

MAX_ID_CHARACTERS = 255
_MAX_MS = (1 << 32) - 1
_BACKOFF = _MAX_MS


class Priority(enum.IntEnum):
    """A higher one is served before a lower one; within one, messages keep their producer's order."""

    LOWEST = 0
    LOW = 10
    NORMAL = 20
    HIGH = 30
    HIGHEST = 40


class AckPolicy(enum.IntEnum):
    """When a message that was received is done with."""

    NONE = 0
    """At once: what its consumer does with it is the consumer's business."""
    REQUIRED = 1
    """When it is acked. Until then it is leased to its consumer, for as long as that process lives."""
    TIMEOUT = 2
    """As REQUIRED, but the lease ends after ack_timeout seconds also where the process lives."""


_BY_RING = tuple(sorted(Priority, reverse=True))
_RINGS = {priority: ring for ring, priority in enumerate(_BY_RING)}
NORMAL_RING = _RINGS[Priority.NORMAL]


def ring_of(priority: int) -> int:
    """Index of the ring, 0 being the one that is served first."""
    try:
        return _RINGS[priority]  # type: ignore[index]  # an IntEnum hashes as its int
    except (KeyError, TypeError):
        raise InvalidMessage(f"priority is one of 0, 10, 20, 30, 40 (mqshm.Priority), not {priority!r}") from None


class Envelope(NamedTuple):
    """What goes with a payload, checked, and as the core takes it; the time to live still counts from the publish."""

    ring: int = NORMAL_RING
    id: str | None = None
    headers: bytes | None = None
    key: str | None = None
    ttl_ns: int | None = None
    delay_ms: int = 0
    ack_ms: int = 0
    unique: bool = True  # whether its id counts within dedup_window; not of what is put back

    def expires_ns(self) -> int:
        """Wall time; 0 leaves it to the configuration."""
        if self.ttl_ns is None:
            return 0
        return time.time_ns() + self.ttl_ns if self.ttl_ns else _native.NEVER

    def fill(self, core: Any) -> list[Any]:
        """Writes it to a mqshm_envelope that is all zero; returns what must be kept for as long as that is used."""
        core.ring, core.delay_ms, core.ack_ms = self.ring, self.delay_ms, self.ack_ms
        core.expires_ns = self.expires_ns()
        core.unique = self.unique
        kept = []
        for name, value in (("id", self.id), ("headers", self.headers), ("key", self.key)):
            if value:
                raw = _native.ffi.from_buffer(value.encode() if isinstance(value, str) else value)
                kept.append(raw)
                setattr(core, name, raw)
                setattr(core, name + "_size", len(raw))
        return kept


def envelope(
    id: str | None, priority: int, ttl: float | None, delay: float | None, headers_: Headers | None, key: str | None,
    ack_timeout: float | None,
) -> Envelope:  # fmt: skip
    return Envelope(
        ring_of(priority),
        _name("id", id),
        None if headers_ is None else headers.encode(headers_) or None,
        _name("key", key),
        None if ttl is None else int(_seconds("ttl", ttl) * 1e9),
        0 if delay is None else _ms("delay", delay),
        0 if ack_timeout is None else _ms("ack_timeout", ack_timeout),
    )


def _name(what: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {type(value).__name__}")
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise InvalidMessage(f"{what} has 1 to {MAX_ID_CHARACTERS} characters, not {len(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidMessage(f"{what} is not Unicode text: {error.reason}") from None
    return value


def _seconds(what: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number of seconds, not {type(value).__name__}")
    if not (math.isfinite(value) and 0 <= value <= 1e9):
        raise InvalidMessage(f"{what} is 0 to 1e9 seconds, not {value!r}")
    return value


def _ms(what: str, value: float) -> int:
    ms = _native.milliseconds(_seconds(what, value))
    if ms > _MAX_MS:
        raise InvalidMessage(f"{what} is at most {_MAX_MS / 1000:.0f} seconds, not {value!r}")
    return ms


@dataclass(frozen=True)
class Message:
    """A message prepared for `Broker.publish` and `Broker.publish_batch`. Publishing it twice makes two messages."""

    data: Buffer | str
    """The payload; a str is sent as UTF-8."""
    id: str | None = None
    """Name of the message, to find it by, 1 to 255 characters."""
    priority: int = Priority.NORMAL
    ttl: float | None = None
    """Seconds after which it is not delivered any more; None: the broker's message_ttl; 0: lives for ever."""
    delay: float | None = None
    """Seconds before it is delivered."""
    headers: Headers | None = None
    key: str | None = None
    """Travels with the message, 1 to 255 characters."""
    ack_timeout: float | None = None
    """Seconds of its lease under AckPolicy.TIMEOUT; None: its group's."""

    def __post_init__(self) -> None:
        payload(self.data)
        made = envelope(self.id, self.priority, self.ttl, self.delay, self.headers, self.key, self.ack_timeout)
        object.__setattr__(self, "priority", _BY_RING[made.ring])
        object.__setattr__(self, "_envelope", made)

    @property
    def envelope(self) -> Envelope:
        made: Envelope = self._envelope  # type: ignore[attr-defined]  # set past the frozen dataclass
        return made


def prepared(
    data: Any, id: str | None, priority: int, ttl: float | None, delay: float | None, headers_: Headers | None,
    key: str | None, ack_timeout: float | None,
) -> tuple[Any, Envelope]:  # fmt: skip
    """Payload and envelope, whether they come as options or with a Message."""
    if not isinstance(data, Message):
        return data, envelope(id, priority, ttl, delay, headers_, key, ack_timeout)
    if (id, priority, ttl, delay, headers_, key, ack_timeout) != (None, Priority.NORMAL) + (None,) * 5:
        raise TypeError("a Message brings its own options: give them to it, not to publish (timeout excepted)")
    return data.data, data.envelope


def payload(data: Any) -> Buffer | str:
    """`data` where it is a payload, as something contiguous; TypeError otherwise."""
    if isinstance(data, (bytes, str)):
        return data
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(
            f"a payload is bytes-like or str, not {type(data).__name__}: mqshm.Queue takes any object, "
            "or make it bytes yourself, for instance with pickle.dumps"
        ) from None
    contiguous: Buffer = data if view.c_contiguous else view.tobytes()
    return contiguous


class Delivery:
    """A message that was received. Leave `with delivery:` to ack it, or to nack it by an exception.

    Where it is dropped without having been settled it is delivered again, as if it had been nacked.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        data: bytes
        """The payload; one copy, made at the first look where it is large."""
        view: memoryview
        """The payload where it lies: read-only, and its slot is kept for as long as the view lives, settled or not."""
        seq: int
        """Sequence number in the broker."""
        id: str | None
        topic: str
        key: str | None
        published_at: float
        """Seconds since 1970."""
        expires_at: float | None
        """Seconds since 1970; None: never."""
        attempt: int
        """1 at the first delivery."""
        redelivered: bool
        settled: bool
        _ring: int
        _receiver: Any
        _headers: bytes | None

        def ack(self) -> None:
            """Done with: it will not be delivered again. LeaseLost where it may already have been."""

        def _nack(self, delay_ms: int) -> None: ...
        def _reject(self, reason: str) -> None: ...
        def _extend(self, ms: int) -> None: ...
        def __enter__(self) -> Self: ...
        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    @property
    def priority(self) -> Priority:
        return _BY_RING[self._ring]

    @property
    def headers(self) -> dict[str, HeaderValue]:
        raw = self._headers
        return headers.decode(raw) if raw else {}

    def nack(self, delay: float | None = None, requeue: bool = True) -> None:
        """Not done: it is delivered again, after `delay` seconds, or after the group's backoff where there is none
        given. With requeue=False it is given up, as by `reject`."""
        if not requeue:
            self._reject("nacked without requeue")
        else:
            self._nack(_BACKOFF if delay is None else min(_ms("delay", delay), _BACKOFF - 1))

    def reject(self, reason: str = "") -> None:
        """Given up: it is settled, and counted as rejected."""
        if not isinstance(reason, str):
            raise TypeError(f"reason is a str, not {type(reason).__name__}")
        self._reject(reason)

    def extend(self, seconds: float) -> None:
        """The lease ends this many seconds from now (AckPolicy.TIMEOUT; the others' do not end)."""
        self._extend(_ms("seconds", seconds))

    def array(self, dtype: Any = "u1", shape: int | tuple[int, ...] | None = None) -> numpy.ndarray[Any, Any]:
        """The payload as a read-only numpy array where it lies; its slot is kept for as long as the array lives."""
        import numpy

        made = numpy.frombuffer(self.view, dtype=dtype)
        return made if shape is None else made.reshape(shape)

    def __repr__(self) -> str:
        name = "" if self.id is None else f" id={self.id!r}"
        return f"<Delivery {self.topic!r} seq={self.seq}{name} priority={int(self.priority)} attempt={self.attempt}>"


@lru_cache(maxsize=2)
def delivery_class(front: ModuleType) -> type[Delivery]:
    """The class that a front makes its messages of."""
    return type(
        "Delivery", (Delivery, front.Message), {"__slots__": (), "__module__": __name__, "__doc__": Delivery.__doc__}
    )


def observed_delivery_class(front: ModuleType, watch: Watch) -> type[Delivery]:
    """The same, reporting what is done with the messages."""
    base: Any = delivery_class(front)

    def reporting(op: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(base, op)
        return watch.observed(op, method, topic_of_message)

    def leave(self: Any, kind: Any, error: Any, trace: Any) -> None:
        if self.settled:
            return
        if kind is None:
            self.ack()
            return
        start, failed = perf_counter(), None
        try:
            base.nack(self)
        except Exception as raised:
            failed = raised  # what went wrong inside is what the caller must hear of
        panic = error if issubclass(kind, Exception) else None
        if panic is not None:
            self._panicked()
        watch.report("nack", start, failed, topic_of_message, (self,), panic=panic)

    verbs: dict[str, Any] = {op: reporting(op) for op in ("ack", "nack", "reject", "extend")}
    return type("Delivery", (base,), {"__slots__": (), "__module__": __name__, "__exit__": leave, **verbs})
