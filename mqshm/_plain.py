"""publish, receive and settle over cffi alone: where the C front is not built, or MQSHM_FRONT=0 asks for it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from struct import Struct
from types import TracebackType
from typing import Any, NoReturn

from mqshm import _common, _native
from mqshm._common import (
    ALREADY_SETTLED,
    FORKED,
    FRONT_CLOSED,
    GO_ON,
    NORMAL_RING,
    NOT_A_MESSAGE,
    NOTHING,
    OK,
    Patience,
    Received,
    Sending,
    Taking,
    bind,
    fail,
    forked,
)
from mqshm._lease import AND_ACKED, BY_RECEIVING, HEAD, LazyLease, Lease, copy_of, leased_copy_of
from mqshm._native import ffi, lib

__all__ = ["Front", "Message", "Receiver", "bind", "forked"]

EAGER = 4 << 10  # payloads up to this are copied at receive,
EAGER_SETTLED = 16 << 10  # and up to this where receiving settles: cheaper than to hold and release
LEASE_LOST, TOO_LARGE = lib.MQSHM_LEASE_LOST, lib.MQSHM_TOO_LARGE
EMPTY = lib.MQSHM_EMPTY
_publish, _receive = lib.mqshm_publish_flat, lib.mqshm_receive_flat


class Front(Sending):
    def __init__(
        self, handle: int, slow_publish: Callable[..., int], slow_publish_batch: Callable[..., Any],
        reattach: Callable[[], None],
    ) -> None:  # fmt: skip
        self._views: list[None] = []
        super().__init__(handle, slow_publish, slow_publish_batch, reattach)
        self._open = self._core  # NULL once closed, which the core knows the meaning of
        self._receivers: weakref.WeakSet[Receiver] = weakref.WeakSet()

    def publish(self, topic: str, data: Any, **options: Any) -> int:
        if options or type(data) is not bytes:
            return self._slow_publish(topic, data, **options)
        try:
            pointer = self._topics[topic]
        except (KeyError, TypeError):
            return self._slow_publish(topic, data)
        seq: int = _publish(self._open, pointer, data, len(data))
        return seq if seq >= 0 else self._slow_publish(topic, data)

    def close(self, drained: Callable[[], None]) -> None:
        self._shut()
        super().close(drained)

    def abandon(self) -> None:
        self._shut()
        super().abandon()

    def _shut(self) -> None:
        self._open = ffi.NULL
        for receiver in self._receivers:
            receiver.shut()

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


_read_sizes = _reader("id_size", "headers_size", "key_size")
# Of a mqshm_flat: the delivery, and `size` and `data` as strings were in Pascal.
_short = Struct(f"{ffi.offsetof('mqshm_flat', 'head')}x{HEAD}s{1 + 255}p")
_read_short = _short.unpack


def _field(name: str) -> Any:
    read = _reader(name)
    return property(lambda self: read(self._raw)[0])


class Receiver(Taking):
    def __init__(self, front: Front, sub: int, ack: int, message_class: type) -> None:
        super().__init__(front, sub, ack, message_class)
        self.closed = False
        self._subs = ffi.new("mqshm_sub_t *[]", [ffi.cast("mqshm_sub_t *", sub)])
        self._ack = ack
        self._leases = ack != lib.MQSHM_ACK_NONE
        self._room = EAGER if self._leases else EAGER_SETTLED
        self._rooms: deque[tuple[Any, Any]] = deque()  # which no call writes to or reads from,
        self._made: list[Any] = []  # and all of them
        self._lazy = _maker(message_class)
        self._eager = _maker(_eager_class(message_class, self._leases))
        front._receivers.add(self)

    def close(self, code: int = lib.MQSHM_CLOSED) -> None:
        super().close(code)
        self.shut()

    def shut(self) -> None:
        for flat in self._made:
            flat.sub = ffi.NULL

    def receive(self, timeout: float | None = None) -> Message | None:
        rooms, make = self._rooms, self._eager  # to call an attribute is slower than to load and call it
        try:
            room = rooms.pop()
        except IndexError:
            room = self._new_room()
        flat, short = room
        code = _receive(flat)
        if code == OK:
            message: Message = make()
            message._raw, message._copy = _read_short(short)
            message._receiver = self
            rooms.append(room)
            if self._leases:
                message._lease = Lease(message._raw, self)
            return message
        other = None if code == EMPTY else self._not_short(code, flat)
        rooms.append(room)
        if other is not None or (timeout is not None and timeout <= 0):
            return other
        return self._wait(_native.timeout_ns(timeout))

    def receive_nowait(self) -> Message | None:
        return self.receive(0)

    def _wait(self, timeout_ns: int) -> Message | None:
        patience = Patience(timeout_ns)
        front = self._front
        while left := patience.slice():
            cell = front._enter()
            try:
                code = lib.MQSHM_CLOSED if front.closed else lib.mqshm_wait(front._core, self._subs, 1, left)
            finally:
                front._leave(cell)
            if code not in GO_ON:
                self._failed(code)
            message = self.receive(0)
            if message is not None:
                return message
        return None

    def ack_batch(self, messages: Iterable[Message]) -> int:
        acked = 0
        for message in messages:
            if not isinstance(message, Message):
                fail(NOT_A_MESSAGE)
            code = message._settle(None, 0, "")
            if code == OK:
                acked += 1
            elif code not in (LEASE_LOST, ALREADY_SETTLED):
                self._front._fail(code)
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

    def _new_room(self) -> Any:
        flat = ffi.new("mqshm_flat *", {"sub": self._subs[0], "room": self._room, "data": self._room})
        self._made.append(flat)
        if self.closed or self._front.closed:
            self.shut()
        return flat, ffi.buffer(flat, _short.size)

    def _not_short(self, code: int, flat: Any) -> Message | None:
        head = ffi.addressof(flat.head)
        raw = ffi.buffer(head)[:]
        if code == TOO_LARGE:
            return self._full_message(head, raw)
        if code > 0:
            self._failed(code)
            return self.receive(0)
        message: Message = self._eager()
        message._raw, message._copy = raw, ffi.buffer(flat.data, -code)[:]
        message._receiver = self
        if self._leases:
            message._lease = Lease(raw, self)
        return message

    def _full_message(self, delivery: Any, raw: bytes) -> Message | None:
        """Of a delivery that has more than a payload, or too much of it to be copied at once."""
        lazy = delivery.size > self._room
        message: Message = (self._lazy if lazy else self._eager)()
        message._receiver = self
        message._lease = lease = LazyLease(raw, self) if lazy else Lease(raw, self)
        parts = [(delivery.id, delivery.id_size), (delivery.headers, delivery.headers_size)]
        parts += [(delivery.key, delivery.key_size), (delivery.data, 0 if lazy else delivery.size)]
        copies = self._copies(delivery, parts)
        code = OK
        if None in copies:
            code = LEASE_LOST
        elif not self._leases:
            code = lease.ack()
            lease.unasked = True
        *names, data = [copy or b"" for copy in copies]
        message._raw = raw + b"".join(names)
        if not lazy:
            message._copy = data
        if code == OK:
            return message
        lease.end = NOTHING  # it went to another before it was copied
        if code != LEASE_LOST:
            self._front._fail(code)
        return None

    def _copies(self, delivery: Any, parts: list[tuple[Any, int]]) -> list[bytes | None]:
        front = self._front
        cell = front._enter()
        try:
            if front.closed:
                fail(FRONT_CLOSED)
            copy = leased_copy_of if self._ack == lib.MQSHM_ACK_TIMEOUT else copy_of
            return [copy(delivery, *part) for part in parts]
        finally:
            front._leave(cell)


class _ByReceiving(type):
    def __call__(cls, *args: Any, **options: Any) -> NoReturn:
        raise TypeError("a received message is made by receiving it")


def _maker(message_class: type) -> Callable[[], Any]:
    """Makes messages all the same."""
    make: Callable[[], Any] = type.__call__.__get__(message_class)
    return make


@lru_cache(maxsize=2)
def _eager_class(message_class: type, leased: bool) -> type:
    """For messages that have a copy of their payload from the start, so that `data` is a plain slot. What receiving
    settles has no lease of its own, as a rule."""
    members: dict[str, Any] = {"__slots__": (), "data": Message.__dict__["_copy"]}
    if not leased:
        slot = Message.__dict__["_lease"]

        def lease(message: Message) -> Any:
            try:
                return slot.__get__(message)
            except AttributeError:
                return BY_RECEIVING

        members["_lease"] = property(lease, slot.__set__)
    return type(message_class.__name__, (message_class,), members)


class Message(Received, metaclass=_ByReceiving):
    __slots__ = ("_copy", "_lease", "_raw", "_receiver")

    _copy: bytes  # the payload, where it is not lazy
    _raw: bytes  # a mqshm_delivery, then id, headers and key
    _lease: Any  # a Lease or a Settled

    seq = _field("seq")
    attempt = _field("attempt")
    _ring = _field("ring")
    _topic = _field("topic")
    _published_ns = _field("published_ns")
    _expires_ns = _field("expires_ns")

    def _name(self, which: int) -> bytes | None:
        if len(self._raw) == HEAD:
            return None
        sizes = _read_sizes(self._raw)
        start = HEAD + sum(sizes[:which])
        return self._raw[start : start + sizes[which]] if sizes[which] else None

    @property
    def id(self) -> str | None:
        name = self._name(0)
        return name.decode(errors="surrogateescape") if name else None

    @property
    def key(self) -> str | None:
        name = self._name(2)
        return name.decode(errors="surrogateescape") if name else None

    @property
    def _headers(self) -> bytes | None:
        return self._name(1)

    @property
    def settled(self) -> bool:  # type: ignore[override]  # computed here, a field in C
        settled: bool = self._lease.settled
        return settled

    @property
    def _unasked(self) -> bool:
        unasked: bool = self._lease.unasked
        return unasked

    @_unasked.setter
    def _unasked(self, _asked: bool) -> None:
        if self._lease is BY_RECEIVING:
            self._lease = AND_ACKED
        else:
            self._lease.unasked = False

    @property
    def _epoch(self) -> int:  # type: ignore[override]
        epoch: int = self._lease.epoch
        return epoch

    @property
    def _delivery(self) -> Any:
        return self._lease.delivery

    @property
    def data(self) -> bytes:
        data: bytes = self._lease.load()
        return data

    @property
    def view(self) -> memoryview:
        lease = self._lease
        # A lease that ends by itself would end under the view.
        copied = not lease.lazy or lease.data is not None or self._receiver._ack == lib.MQSHM_ACK_TIMEOUT
        view: memoryview = memoryview(self.data) if copied else lease.view()
        return view

    def ack(self) -> None:
        code = self._settle(None, 0, "")
        if code != OK:
            self._failed(FRONT_CLOSED if self._receiver._front.closed else code)

    def _end(self, how: int, delay_ms: int, reason: str) -> None:
        code = self._settle(how, delay_ms, reason)
        if code != OK:
            self._failed(code)

    def _commit_begin(self) -> bool:
        lease = self._lease
        self._not_settled()
        if lease.epoch != _common.epoch:
            fail(FORKED)
        if self._receiver._front.closed:
            fail(FRONT_CLOSED)
        keep: bool = lease.commit_begin()
        return keep

    def _commit_end(self, committed: bool, kept: bool) -> None:
        self._lease.commit_end(committed, kept)

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
            self._raised(kind)
        except Exception:
            pass  # the exception that is under way says more

    def _settle(self, how: int | None, delay_ms: int, reason: str) -> int:
        """None acks. The others come at once, or after the last view."""
        lease = self._lease
        if lease.settled:
            return ALREADY_SETTLED
        if lease.epoch != _common.epoch:
            return int(FORKED)
        if self._receiver._front.closed:
            return FRONT_CLOSED
        if how is None:
            code: int = lease.ack()
            return code
        encoded = reason.encode()
        if lease.lazy:
            try:
                lease.load()
            except Exception:
                pass  # no copy to read later: settled all the same
        lease.settled = True
        lease.end, lease.delay_ms, lease.reason = how, delay_ms, encoded
        code = OK if lease.views else lease.finish()
        return code
