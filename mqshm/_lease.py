"""What a message over cffi alone holds: the right to settle its delivery, and the memory of its payload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mqshm import _common
from mqshm._common import FRONT_CLOSED, NACK, NOTHING, OK, RELEASE, UNREADABLE, Taking, fail
from mqshm._native import ffi, lib

HEAD = ffi.sizeof("mqshm_delivery")
_ack = lib.mqshm_ack_flat


def copy_of(_delivery: Any, pointer: Any, size: int) -> bytes:
    copy: bytes = ffi.buffer(pointer, size)[:] if size else b""
    return copy


def leased_copy_of(delivery: Any, pointer: Any, size: int) -> bytes | None:
    """The same where the lease may end by itself, and with it the memory; None: it has."""
    copied = bytearray(size)
    code = lib.mqshm_delivery_read(delivery, pointer, ffi.from_buffer(copied), size)
    return bytes(copied) if code == OK else None


class Lease:
    """One delivery: the right to settle it. It ends with its message."""

    end = NACK
    delay_ms = 0
    reason = b""
    settled = False
    unasked = False  # settled by receiving
    lazy = False  # the payload is still to be copied
    views: Sequence[None] = ()
    struct: Any = None

    def __init__(self, raw: bytes, receiver: Taking) -> None:
        self.raw = raw
        self.receiver = receiver
        self.epoch = _common.epoch

    def __del__(self) -> None:
        if self.end != NOTHING:
            self.finish()

    @property
    def delivery(self) -> Any:
        if self.struct is None:
            self.struct = ffi.new("mqshm_delivery *")
            ffi.memmove(self.struct, self.raw, HEAD)
        return self.struct

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        front = self.receiver._front
        cell = front._enter()
        try:
            return function(self.delivery, *args)
        finally:
            front._leave(cell)

    def ack(self) -> int:
        self.settled = True
        self.end = NOTHING
        code: int = _ack(self.raw if self.struct is None else self.struct)  # the struct may have been extended
        return code

    def finish(self) -> int:
        how, self.end = self.end, NOTHING
        if how == NOTHING or self.epoch != _common.epoch or self.receiver._front._abandoned:
            return int(OK)
        if how == RELEASE:
            code: int = self.call(lib.mqshm_release)
        elif how == NACK:
            code = self.call(lib.mqshm_nack, self.delay_ms)
        else:
            code = self.call(lib.mqshm_reject, self.reason, len(self.reason))
        return code

    def commit_begin(self) -> bool:
        """Until `commit_end` it counts as settled; whether its memory is looked at, or will be."""
        self.settled, self.end = True, NOTHING
        return False

    def commit_end(self, committed: bool, kept: bool) -> None:
        self.settled = committed
        self.end = NACK if not committed else RELEASE if kept else NOTHING


class LazyLease(Lease):
    """And the memory of the payload, which the message and its views read. It lives as long as any of them."""

    lazy = True
    viewed = False
    data: bytes | None = None  # once it was read
    views: list[None]

    def __init__(self, raw: bytes, receiver: Taking) -> None:
        super().__init__(raw, receiver)
        self.views = []

    def ack(self) -> int:
        # Acked with its payload neither copied nor looked at, a message keeps it for as long as it lives.
        keep = self.views or (self.data is None and not self.viewed)
        code: int = self.call(lib.mqshm_ack_hold if keep else lib.mqshm_ack)
        self.settled = True
        self.end = RELEASE if keep and code == OK else NOTHING
        return code

    def commit_begin(self) -> bool:
        keep = bool(self.views) or (self.data is None and not self.viewed)
        super().commit_begin()
        return keep

    def commit_end(self, committed: bool, kept: bool) -> None:
        super().commit_end(committed, kept)
        if committed and kept and self.viewed and not self.views:  # the last view ended meanwhile
            self.finish()

    def load(self) -> bytes:
        if self.data is None:
            if self.end == NOTHING:
                self.receiver._front._fail(UNREADABLE)
            front = self.receiver._front
            cell = front._enter()
            try:
                ends = not self.settled and self.receiver._ack == lib.MQSHM_ACK_TIMEOUT and self.epoch == _common.epoch
                copy = leased_copy_of(self.delivery, self.delivery.data, self.delivery.size) if ends else None
                if ends and copy is None:
                    front._fail(UNREADABLE)  # another's by now
                data = copy_of(self.delivery, self.delivery.data, self.delivery.size) if copy is None else copy
            finally:
                front._leave(cell)
            self.data = data
            if self.settled and not self.views:
                self.finish()
        return self.data

    def view(self) -> memoryview:
        """Of the segment, anchored by a pointer whose end is the end of the view and of all that was made of it."""
        if self.receiver._front.closed:
            fail(FRONT_CLOSED)
        if self.end == NOTHING:
            self.receiver._front._fail(UNREADABLE)
        self.viewed = True
        self.views.append(None)
        self.receiver._front._views.append(None)
        anchor = ffi.gc(self.delivery.data, self.view_ended)
        return memoryview(ffi.buffer(anchor, self.delivery.size)).toreadonly()

    def view_ended(self, _anchor: Any) -> None:
        front = self.receiver._front
        self.views.pop()
        if self.settled and not self.views:
            self.finish()
        front._views.pop()
        if front.closed:
            front._rest()


class Settled:
    """Stands for the lease of a message that receiving has copied and settled."""

    lazy = False
    settled = True

    def __init__(self, unasked: bool) -> None:
        self.unasked = unasked


BY_RECEIVING, AND_ACKED = Settled(True), Settled(False)
