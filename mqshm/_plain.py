"""publish, receive and settle over cffi alone: where the C front is not built, or MQSHM_FRONT=0 asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from types import TracebackType
from typing import Any

from mqshm import _common, _native
from mqshm._common import (
    ALREADY_SETTLED,
    FORKED,
    FRONT_CLOSED,
    GO_ON,
    NACK,
    NORMAL_RING,
    NOT_A_MESSAGE,
    NOTHING,
    OK,
    RELEASE,
    UNREADABLE,
    Patience,
    Received,
    Sending,
    Taking,
    bind,
    fail,
    forked,
)
from mqshm._native import ffi, lib

__all__ = ["Front", "Message", "Receiver", "bind", "forked"]

EAGER = 4 << 10  # payloads up to this are copied at receive,
EAGER_SETTLED = 16 << 10  # and up to this where receiving settles: cheaper than to hold and release
EMPTY, LEASE_LOST = lib.MQSHM_EMPTY, lib.MQSHM_LEASE_LOST
_NULL = ffi.NULL
_publish, _receive, _ack = lib.mqshm_publish, lib.mqshm_receive, lib.mqshm_ack


class Front(Sending):
    def __init__(
        self, handle: int, slow_publish: Callable[..., int], slow_publish_batch: Callable[..., Any],
        reattach: Callable[[], None],
    ) -> None:  # fmt: skip
        self._views: list[None] = []
        super().__init__(handle, slow_publish, slow_publish_batch, reattach)

    def publish(self, topic: str, data: Any, *args: Any, **options: Any) -> int:
        plain = type(data) is bytes and type(topic) is str and not (args or options)
        pointer = self._topics.get(topic) if plain else None
        if pointer is not None:
            try:
                cell = self._cells.pop()
            except IndexError:
                cell = self._enter()
            try:
                if not self.closed and _publish(self._core, pointer, data, len(data), _NULL, cell) == 0:
                    return int(cell[0])
            finally:
                self._leave(cell)
        return self._slow_publish(topic, data, *args, **options)

    def publish_batch(self, topic: str, items: Any, *args: Any, **options: Any) -> Sequence[int]:
        plain = type(items) in (list, tuple) and isinstance(topic, str) and not (args or options)
        if plain and topic in self._topics and all(type(item) is bytes for item in items):
            return self.publish_batch_full(topic, items, NORMAL_RING, -1)
        seqs: Sequence[int] = self._slow_publish_batch(topic, items, *args, **options)
        return seqs


def _reader(*fields: str) -> Callable[[bytes], tuple[Any, ...]]:
    """Reads some fields, in their order, from the bytes of a mqshm_delivery."""
    layout, at = "=", 0
    declared = dict(ffi.typeof("mqshm_delivery").fields)
    for name in fields:
        size = ffi.sizeof(declared[name].type)
        layout += f"{declared[name].offset - at}x{'Q' if size == 8 else 'I'}"
        at = declared[name].offset + size
    return Struct(layout).unpack_from


def _copy(pointer: Any, size: int) -> bytes:
    copied: bytes = ffi.buffer(pointer, size)[:]
    return copied


def _text(pointer: Any, size: int) -> str | None:
    return _copy(pointer, size).decode(errors="surrogateescape") if size else None


_read_sizes = _reader("size", "id_size", "headers_size", "key_size")


def _field(name: str) -> Any:
    read = _reader(name)
    return property(lambda self: read(self._raw)[0])


class Receiver(Taking):
    def __init__(self, front: Front, sub: int, ack: int, message_class: type[Message]) -> None:
        super().__init__(front, sub, ack, message_class)
        self.closed = False
        self._subs = ffi.new("mqshm_sub_t *[]", [ffi.cast("mqshm_sub_t *", sub)])
        self._sub = self._subs[0]
        self._ack = ack
        self._eager = EAGER_SETTLED if ack == lib.MQSHM_ACK_NONE else EAGER
        self._message_class = message_class
        self._new = message_class.__new__

    def receive_nowait(self) -> Message | None:
        front = self._front
        try:
            cell = front._deliveries.pop()
        except IndexError:
            cell = self._new_cell()
        try:
            if self.closed or front.closed:
                code = lib.MQSHM_CLOSED
            else:
                delivery, raw = cell
                code = _receive(self._sub, delivery)
                if code == 0:
                    message = self._hand_out(delivery, raw[:])
                    if message is not None:
                        return message
                    code = EMPTY
        finally:
            front._deliveries.append(cell)
            if front.closed:
                front._rest()
        if code == EMPTY:
            return None
        self._failed(code)
        return self.receive_nowait()

    def receive(self, timeout: float | None = None) -> Message | None:
        message = self.receive_nowait()
        if message is not None or (timeout is not None and timeout <= 0):
            return message
        patience = Patience(_native.timeout_ns(timeout))
        front = self._front
        while message is None:
            left = patience.slice()
            if left == 0:
                return None
            cell = front._enter()
            try:
                code = lib.mqshm_wait(front._core, self._subs, 1, left)
            finally:
                front._leave(cell)
            if code not in GO_ON:
                self._failed(code)
            message = self.receive_nowait()
        return message

    def ack_batch(self, messages: Iterable[Message]) -> int:
        acked = 0
        for message in messages:
            if not isinstance(message, Message):
                fail(NOT_A_MESSAGE)
            code = message._settle(None, 0, "")
            if code == OK:
                acked += 1
            elif code not in (LEASE_LOST, ALREADY_SETTLED):
                fail(code)
        return acked

    def _take(self, max: int) -> list[Message]:
        """Up to `max` of what is there."""
        taken: list[Message] = []
        while len(taken) < max:
            message = self.receive_nowait()
            if message is None:
                break
            taken.append(message)
        return taken

    def _new_cell(self) -> Any:
        delivery = ffi.new("mqshm_delivery *")
        cell = (delivery, ffi.buffer(delivery))
        self._front._made.append(cell)
        return cell

    def _hand_out(self, delivery: Any, raw: bytes) -> Message | None:
        """None where the delivery went to another while it was copied."""
        size, id_size, headers_size, key_size = _read_sizes(raw)
        message = self._new(self._message_class)
        message._receiver = self
        message._raw = raw
        message._texts = None
        message._lease = None
        message._data = None
        message._unasked = settles = self._ack == lib.MQSHM_ACK_NONE
        if not settles or size > self._eager:
            message._lease = lease = _Lease(ffi.new("mqshm_delivery *", delivery[0]), self)
        if id_size or headers_size or key_size:
            message._texts = (
                _text(delivery.id, id_size),
                _text(delivery.key, key_size),
                _copy(delivery.headers, headers_size) if headers_size else None,
            )
        if size <= self._eager:
            message._data = _copy(delivery.data, size)
            if settles:
                code = _ack(delivery)
            elif self._ack == lib.MQSHM_ACK_TIMEOUT and not lib.mqshm_delivery_held(delivery):
                lease.end = NOTHING
                code = LEASE_LOST
            else:
                return message
        elif settles:
            code = message._settle(None, 0, "")
        else:
            return message
        if code == OK:
            return message
        if code != LEASE_LOST:
            fail(code)
        return None


class _Lease:
    """One delivery: the right to settle it, and its memory. It lives as long as its message and the views of it."""

    __slots__ = ("delay_ms", "delivery", "end", "epoch", "reason", "receiver", "settled", "viewed", "views")

    def __init__(self, delivery: Any, receiver: Receiver) -> None:
        self.delivery = delivery
        self.receiver = receiver
        self.epoch = _common.epoch
        self.end = NACK
        self.delay_ms = 0
        self.reason = b""
        self.settled = self.viewed = False
        self.views: list[None] = []

    def __del__(self) -> None:
        self.finish()

    def call(self, function: Callable[..., int], *args: Any) -> int:
        front = self.receiver._front
        cell = front._enter()
        try:
            return function(self.delivery, *args)
        finally:
            front._leave(cell)

    def finish(self) -> int:
        how, self.end = self.end, NOTHING
        if how == NOTHING or self.epoch != _common.epoch or self.receiver._front._abandoned:
            return int(OK)
        if how == RELEASE:
            return self.call(lib.mqshm_release)
        if how == NACK:
            return self.call(lib.mqshm_nack, self.delay_ms)
        return self.call(lib.mqshm_reject, self.reason, len(self.reason))

    def view(self, size: int) -> memoryview:
        """Anchored by a pointer whose end is the end of the view and of all that was made of it."""
        self.viewed = True
        self.views.append(None)
        self.receiver._front._views.append(None)
        anchor = ffi.gc(self.delivery.data, self.view_ended)
        return memoryview(ffi.buffer(anchor, size)).toreadonly()

    def view_ended(self, _anchor: Any) -> None:
        front = self.receiver._front
        self.views.pop()
        if self.settled and not self.views:
            self.finish()
        front._views.pop()
        if front.closed:
            front._rest()


class Message(Received):
    __slots__ = ("_data", "_lease", "_raw", "_receiver", "_texts", "_unasked")

    _raw: bytes  # of the mqshm_delivery
    _data: bytes | None
    _lease: _Lease | None  # None: settled, and not in the segment any more
    _texts: tuple[str | None, str | None, bytes | None] | None

    seq = _field("seq")
    attempt = _field("attempt")
    _ring = _field("ring")
    _topic = _field("topic")
    _published_ns = _field("published_ns")
    _expires_ns = _field("expires_ns")

    def __init__(self) -> None:
        raise TypeError("a received message is made by receiving it")

    @property
    def id(self) -> str | None:
        return self._texts[0] if self._texts else None

    @property
    def key(self) -> str | None:
        return self._texts[1] if self._texts else None

    @property
    def _headers(self) -> bytes | None:
        return self._texts[2] if self._texts else None

    @property
    def settled(self) -> bool:  # type: ignore[override]  # computed here, a field in C
        return self._lease is None or self._lease.settled

    @property
    def _epoch(self) -> int:  # type: ignore[override]
        return self._lease.epoch if self._lease else _common.epoch

    @property
    def _delivery(self) -> Any:
        assert self._lease is not None
        return self._lease.delivery

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._load()
        assert self._data is not None
        return self._data

    @property
    def view(self) -> memoryview:
        lease = self._lease
        if self._data is None and self._receiver._ack == lib.MQSHM_ACK_TIMEOUT:
            self._load()  # a lease that ends by itself would end under the view
        if self._data is not None:
            return memoryview(self._data)
        assert lease is not None
        if self._receiver._front.closed:
            fail(FRONT_CLOSED)
        if lease.end == NOTHING:
            fail(UNREADABLE)
        return lease.view(_read_sizes(self._raw)[0])

    def ack(self) -> None:
        code = self._settle(None, 0, "")
        if code != OK:
            self._failed(code)

    def _end(self, how: int, delay_ms: int, reason: str) -> None:
        code = self._settle(how, delay_ms, reason)
        if code != OK:
            self._failed(code)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.settled:
            return
        if kind is None:
            self.ack()
            return
        try:
            self.nack()
        except Exception:
            pass  # the exception that is under way says more

    def _load(self) -> None:
        lease = self._lease
        assert lease is not None
        if lease.end == NOTHING:
            fail(UNREADABLE)
        front = self._receiver._front
        cell = front._enter()
        try:
            data = _copy(lease.delivery.data, lease.delivery.size)
            ends = not lease.settled and self._receiver._ack == lib.MQSHM_ACK_TIMEOUT and lease.epoch == _common.epoch
            if ends and not lib.mqshm_delivery_held(lease.delivery):
                fail(UNREADABLE)  # another's by now, perhaps torn
        finally:
            front._leave(cell)
        self._data = data
        if lease.settled and not lease.views:
            lease.finish()

    def _settle(self, how: int | None, delay_ms: int, reason: str) -> int:
        """None acks. The others come at once, or after the last view."""
        lease = self._lease
        if lease is None or lease.settled:
            return ALREADY_SETTLED
        if lease.epoch != _common.epoch:
            return int(FORKED)
        if self._receiver._front.closed:
            return FRONT_CLOSED
        if how is None:
            # Acked with its payload neither copied nor looked at, a message keeps it for as long as it lives.
            keep = lease.views or (self._data is None and not lease.viewed)
            code = lease.call(lib.mqshm_ack_hold if keep else lib.mqshm_ack)
            lease.settled = True
            lease.end = RELEASE if keep and code == OK else NOTHING
            return code
        encoded = reason.encode()
        if self._data is None:
            try:
                self._load()
            except Exception:
                pass  # no copy to read later: settled all the same
        lease.settled = True
        lease.end, lease.delay_ms, lease.reason = how, delay_ms, encoded
        return int(OK) if lease.views else lease.finish()
