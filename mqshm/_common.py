"""What both fronts do alike: all of publish, receive and settle that is not in a message's hot path.

mqshm._fast completes these classes in C, mqshm._plain over cffi. cffi lets go of the interpreter's lock in each call,
so what a call writes to is its own for that time, and `close` must not take the handle away under it: both are what a
front's cells are for.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from mqshm import _native
from mqshm._native import ffi, lib

ALREADY_SETTLED, FRONT_CLOSED, UNREADABLE, NOT_A_MESSAGE = -1, -2, -4, -5  # -3 is the C front's own
NOTHING, RELEASE, NACK, REJECT = range(4)  # what becomes of a delivery when its message, or the last view of it, ends
NORMAL_RING = 2
SLICE_NS = 100_000_000
_TOPICS = 4096

OK, FORKED = lib.MQSHM_OK, lib.MQSHM_FORKED
_NO_ROOM = (lib.MQSHM_FULL, lib.MQSHM_NO_MEMORY)
_TROUBLES = {**_native.TROUBLES, UNREADABLE: lib.MQSHM_TROUBLE_LEASE}
GO_ON = (lib.MQSHM_OK, lib.MQSHM_TIMEOUT, lib.MQSHM_INTERRUPTED)

_raise_result: Callable[..., NoReturn] = _native.raise_result
epoch = 0  # forks of this process; what was leased under an older one is the parent's
_fronts: weakref.WeakSet[Any] = weakref.WeakSet()


def bind(address: int, raise_result: Callable[..., NoReturn]) -> None:
    """`address` is for the C front: cffi calls the same functions by their names."""
    global _raise_result
    _raise_result = raise_result


def forked() -> int:
    """In a forked child, before anything else."""
    global epoch
    epoch += 1
    for front in _fronts:
        front.alone()
    return epoch


def fail(code: int, seqs: Sequence[int] | None = None) -> NoReturn:
    if code == UNREADABLE:
        _raise_result(lib.MQSHM_LEASE_LOST, "the payload was not read before its message was settled or its lease over")
    if code == NOT_A_MESSAGE:
        raise TypeError("ack_batch takes received messages")
    _raise_result(code, "" if code < 0 or code == FORKED else _native.reason(), seqs)


class Patience:
    """Counts down to the end of a wait; -1 is for ever."""

    def __init__(self, timeout_ns: int) -> None:
        self._ends = None if timeout_ns < 0 else time.monotonic_ns() + timeout_ns

    def slice(self) -> int:
        """ns to wait before the next look; 0: the time is over."""
        return SLICE_NS if self._ends is None else max(0, min(SLICE_NS, self._ends - time.monotonic_ns()))


def _bytes(data: Any) -> Any:
    return data.encode() if isinstance(data, str) else data


class Sending:
    """What a Front does where a publish does not succeed at once, or has options."""

    closed: bool
    _abandoned: bool
    _views: Any  # how many, or a list of as many, look at the segment's memory

    def __init__(
        self, handle: int, slow_publish: Callable[..., int], slow_publish_batch: Callable[..., Any],
        reattach: Callable[[], None],
    ) -> None:  # fmt: skip
        self.closed = self._abandoned = False
        self._core = ffi.cast("mqshm_t *", handle)
        self._slow_publish = slow_publish
        self._slow_publish_batch = slow_publish_batch
        self._reattach = reattach
        self._attached = epoch
        self._topics: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._drained: list[Callable[[], None]] = []
        self._cells: list[Any] = []  # each a sequence number and an envelope to write to; others are in calls
        self._made: list[Any] = []  # all of them
        _fronts.add(self)

    def alone(self) -> None:
        """In a forked child: the calls of other threads ended with the fork."""
        self._made = self._cells[:]

    def _enter(self) -> Any:
        try:
            cell = self._cells.pop()  # popping and appending are each one step, whatever threads and finalizers do
        except IndexError:
            cell = (ffi.new("uint64_t *"), ffi.new("mqshm_envelope *"))
            self._made.append(cell)
        if self._abandoned:
            self._leave(cell)
            fail(FRONT_CLOSED)
        return cell

    def _leave(self, cell: Any) -> None:
        self._cells.append(cell)
        if self.closed:
            self._rest()

    def _busy(self) -> bool:
        return bool(self._views) or len(self._made) > len(self._cells)

    def _rest(self) -> None:
        """Once closed and nothing looks at the segment any more: it may go."""
        if not self._busy():
            try:
                drained = self._drained.pop()
            except IndexError:
                return
            drained()

    def close(self, drained: Callable[[], None]) -> None:
        if not self.closed:
            self._drained.append(drained)
            self.closed = True
            self._rest()

    def abandon(self) -> None:
        self.closed = self._abandoned = True

    def _fail(self, code: int, seqs: Sequence[int] | None = None) -> NoReturn:
        kind = _TROUBLES.get(code)
        if kind is not None:
            self.trouble(kind)  # the core's reason stays
        fail(code, seqs)

    def trouble(self, kind: int) -> None:
        """Counts what went wrong in this process, for the broker's health."""
        if self.closed:
            return
        cell = self._enter()
        try:
            lib.mqshm_count_trouble(self._core, kind)
        finally:
            self._leave(cell)

    def _failed(self, code: int) -> None:
        """Returns where the call is to be made again."""
        if code != FORKED or self._attached == epoch or self.closed:
            self._fail(FRONT_CLOSED if self.closed else code)
        self._reattach()
        self._attached = epoch

    def _topic(self, name: str) -> Any:
        topic = self._topics.get(name)
        while topic is None:
            text = name.encode()
            out = ffi.new("mqshm_topic_t **")
            code = lib.mqshm_topic_open(self._core, text, len(text), out)
            if code == OK:
                topic = out[0]
                if len(self._topics) >= _TOPICS:
                    self._topics.clear()
                self._topics[name] = topic
            else:
                self._failed(code)
        return topic

    def topic_name(self, number: int) -> str:
        name = self._names.get(number)
        if name is None:
            text, size = ffi.new("char **"), ffi.new("uint32_t *")
            cell = self._enter()
            try:
                code = lib.mqshm_topic_name(self._core, number, text, size)
                if code != OK:
                    self._fail(code)
                name = self._names[number] = ffi.unpack(text[0], size[0]).decode(errors="surrogateescape")
            finally:
                self._leave(cell)
        return name

    def publish_full(
        self, topic: str, data: Any, ring: int, id: str | None, headers: bytes | None, key: str | None, expires_ns: int,
        delay_ms: int, ack_ms: int, timeout_ns: int,
    ) -> int:  # fmt: skip
        payload = data if type(data) is bytes else ffi.from_buffer(_bytes(data))
        size = len(payload)
        patience = None
        cell = self._enter()
        try:
            seq, envelope = cell
            envelope.ring, envelope.expires_ns, envelope.delay_ms, envelope.ack_ms = ring, expires_ns, delay_ms, ack_ms
            # Of names that are not given only the size is looked at.
            envelope.id_size = envelope.headers_size = envelope.key_size = 0
            envelope.unique = 1
            if id:
                envelope.id = id_bytes = ffi.from_buffer(id.encode())
                envelope.id_size = len(id_bytes)
            if headers:
                envelope.headers = headers_bytes = ffi.from_buffer(headers)
                envelope.headers_size = len(headers_bytes)
            if key:
                envelope.key = key_bytes = ffi.from_buffer(key.encode())
                envelope.key_size = len(key_bytes)
            while not self.closed:
                pointer = self._topics.get(topic) or self._topic(topic)
                code = lib.mqshm_publish(self._core, pointer, payload, size, envelope, seq)
                if code == OK:
                    return int(seq[0])
                patience = patience or Patience(timeout_ns)
                code = self._again(code, pointer, size, patience)
                if code != OK:
                    self._fail(code)
            self._fail(FRONT_CLOSED)
        finally:
            self._leave(cell)

    def publish_batch_full(
        self, topic: str, items: Iterable[Any], ring: int, timeout_ns: int, before: Sequence[int] = ()
    ) -> Sequence[int]:
        """`before` are the numbers of those of the batch that are in already."""
        payloads = [ffi.from_buffer(_bytes(item)) for item in items]
        count, done = len(payloads), 0
        sizes = list(map(len, payloads))
        data, data_sizes = ffi.new("void *[]", payloads), ffi.new("uint64_t[]", sizes)
        seqs, more = ffi.new("uint64_t[]", count), ffi.new("uint32_t *")
        envelope = ffi.new("mqshm_envelope *", {"ring": ring})
        envelopes = ffi.NULL if ring == NORMAL_RING else ffi.new("mqshm_envelope *[]", [envelope] * count)
        patience = Patience(timeout_ns)
        cell = self._enter()
        try:
            while not self.closed:
                pointer, more[0] = self._topic(topic), 0
                code = lib.mqshm_publish_batch(
                    self._core, pointer, count - done, data + done, data_sizes + done, envelopes, seqs + done, more
                )
                done += more[0]
                if code == OK:
                    return _numbers(before, seqs, done)
                code = self._again(code, pointer, sizes[done] if done < count else 0, patience)
                if code != OK:
                    self._fail(code, _numbers(before, seqs, done))
            self._fail(FRONT_CLOSED, _numbers(before, seqs, done))
        finally:
            self._leave(cell)

    def _again(self, code: int, topic: Any, size: int, patience: Patience) -> int:
        """After a publish that did not succeed: OK to try again, having waited for room where that was missing."""
        if code == FORKED:
            self._failed(code)
            return int(OK)
        left = patience.slice() if code in _NO_ROOM else 0
        if left or code == lib.MQSHM_FULL:  # the last word: by a look at every slot
            code = lib.mqshm_wait_room(self._core, topic, size, left)
            return int(OK) if code in GO_ON or code == FORKED else code
        return code


def _numbers(before: Sequence[int], seqs: Any, count: int) -> Sequence[int]:
    """Those of one process rise."""
    if not before and count > 1 and seqs[count - 1] - seqs[0] == count - 1:
        return range(seqs[0], seqs[0] + count)
    return [*before, *ffi.unpack(seqs, count)]


class Taking:
    """What a Receiver does but for receiving what is there."""

    closed: bool
    receive: Callable[..., Any]
    _take: Callable[[int], list[Any]]
    _ack: int

    def __init__(self, front: Any, sub: int, ack: int, message_class: type) -> None:
        self._front = front
        self._code: int = lib.MQSHM_CLOSED

    def close(self, code: int = lib.MQSHM_CLOSED) -> None:
        """From now on receiving fails with this; messages in hand can still be settled."""
        self._code = code
        self.closed = True

    def receive_batch(self, max: int, timeout: float | None = None) -> list[Any]:
        if max < 1:
            raise ValueError(f"max is at least 1, not {max!r}")
        taken = self._take(max)
        if not taken:
            first = self.receive(timeout)
            if first is not None:
                taken = [first, *self._take(max - 1)]
        return taken

    def _failed(self, code: int) -> None:
        """Returns where the call is to be made again."""
        if self.closed and code == lib.MQSHM_CLOSED:
            _raise_result(self._code, "")
        self._front._failed(code)


class Received:
    """What a Message does but for payload, views and ack."""

    __slots__ = ()

    attempt: int
    settled: bool
    _unasked: bool  # settled by receiving: takes an ack all the same, once
    _receiver: Any
    _topic: int
    _published_ns: int
    _expires_ns: int
    _epoch: int
    _delivery: Any
    _end: Callable[[int, int, str], None]

    @property
    def topic(self) -> str:
        name: str = self._receiver._front.topic_name(self._topic)
        return name

    @property
    def published_at(self) -> float:
        return self._published_ns / 1e9

    @property
    def expires_at(self) -> float | None:
        return self._expires_ns / 1e9 if self._expires_ns else None

    @property
    def redelivered(self) -> bool:
        return self.attempt > 1

    def nack(self) -> None:
        self._nack(0)

    def _raised(self, kind: type[BaseException]) -> None:
        """The block of `with message:` was left by an exception of this kind."""
        if issubclass(kind, Exception):  # and not by Ctrl-C, or the end of a task
            self._panicked()
        self.nack()

    def _panicked(self) -> None:
        self._receiver._front.trouble(lib.MQSHM_TROUBLE_PANIC)

    def _nack(self, delay_ms: int) -> None:
        self._not_settled()
        self._end(NACK, delay_ms, "")

    def _reject(self, reason: str) -> None:
        self._not_settled()
        self._end(REJECT, 0, reason)

    def _extend(self, ms: int) -> None:
        self._not_settled()
        if self._epoch != epoch:
            fail(FORKED)
        front = self._receiver._front
        if front.closed:
            fail(FRONT_CLOSED)
        cell = front._enter()
        try:
            code = lib.mqshm_extend(ffi.cast("mqshm_delivery *", self._delivery), ms)
        finally:
            front._leave(cell)
        if code != OK:
            front._fail(code)

    def _not_settled(self) -> None:
        if self.settled:
            fail(ALREADY_SETTLED)

    def _failed(self, code: int) -> None:
        """Returns where there is nothing wrong: receiving has settled it, and now it is acked."""
        if code != ALREADY_SETTLED or not self._unasked:
            self._receiver._front._fail(code)
        self._unasked = False  # type: ignore[misc]  # a slot of the subclass

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a received message stays in its process, where its lease is: send its data instead")
