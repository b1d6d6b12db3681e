"""Transactions: messages that are published, and messages that are settled, all together or not at all.

Until its commit a transaction is in its own process alone: what it holds is a list. So who dies rolls back, whoever
waits for nothing, and a transaction takes no memory of the broker's before it is to be committed.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mqshm._native import check, ffi, lib, raise_result, reason
from mqshm.errors import (
    ForkedHandle,
    InvalidMessage,
    TransactionCommitted,
    TransactionNotFound,
    TransactionRolledBack,
    TransactionTimeout,
)
from mqshm.message import Delivery, Envelope, Message, Priority, payload, prepared
from mqshm.topics import validate_topic

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from mqshm.headers import Headers
    from mqshm.segment import Attachment

OPEN, COMMITTED, ROLLED_BACK, TIMED_OUT = "open", "committed", "rolled back", "timed out"
_REMEMBERED = 1000  # ids of transactions that ended, so that who comes late is told how
_NO_ROOM = (lib.MQSHM_FULL, lib.MQSHM_NO_MEMORY)
_numbers = itertools.count(1)


class _Part(NamedTuple):
    topic: str
    data: bytes
    envelope: Envelope


class Transaction:
    """Made by `Broker.transaction` or `Broker.begin`. Leaving `with` commits, or rolls back on an exception."""

    def __init__(self, attachment: Attachment, front: Any, id: str, timeout: float | None) -> None:
        self.id = id
        self.timeout = timeout
        """Seconds from its beginning after which it is rolled back; None: it takes as long as it takes."""
        self.sequence_numbers: Sequence[int] = ()
        """Of its messages, in their order, once it is committed."""
        self._attachment = attachment
        self._front = front
        self._pid = os.getpid()
        self._ends = None if timeout is None else time.monotonic() + timeout
        self._parts: list[_Part] = []
        self._settled: list[Any] = []
        self._state = OPEN
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """ "open", "committed", "rolled back" or "timed out"."""
        if self._state == OPEN and self._ends is not None and time.monotonic() >= self._ends:
            self._end(TIMED_OUT)
        return self._state

    def publish(
        self,
        topic: str,
        data: Buffer | str | Message,
        *,
        id: str | None = None,
        priority: int = Priority.NORMAL,
        ttl: float | None = None,
        delay: float | None = None,
        headers: Headers | None = None,
        key: str | None = None,
        ack_timeout: float | None = None,
    ) -> None:
        """Adds a message, with the options of `Broker.publish`: nobody sees it before the commit, from when on its
        ttl and delay count too."""
        self._add(topic, *prepared(data, id, priority, ttl, delay, headers, key, ack_timeout))

    def _put_back(self, topic: str, message: Message) -> None:
        """What is somewhere already, and goes somewhere else: its id was published before, and that is no duplicate."""
        self._add(topic, message.data, message.envelope._replace(unique=False))

    def _add(self, topic: str, given: Buffer | str, made: Envelope) -> None:
        validate_topic(topic)
        raw = payload(given)
        part = _Part(topic, raw.encode() if isinstance(raw, str) else bytes(raw), made)
        with self._lock:
            self._check_open()
            self._parts.append(part)

    def ack(self, message: Delivery) -> None:
        """Acks a received message with the commit. It stays leased until then, and after a roll back."""
        if not hasattr(message, "_commit_begin"):
            raise TypeError(f"ack takes a received message, not {type(message).__name__}")
        with self._lock:
            self._check_open()
            if message._receiver._front._core != self._front._core:
                raise InvalidMessage("the message was received from another broker: a transaction is within one")
            if not any(each is message for each in self._settled):
                self._settled.append(message)

    def commit(self) -> Sequence[int]:
        """Publishes and acks all of it, and returns the messages' sequence numbers.

        Where a subscription is full it waits, as publish does, for as long as the transaction may take. Whatever fails,
        the transaction is rolled back: QueueFull, MemoryLimitExceeded, LeaseLost (a message to be acked is not this
        consumer's any more), TransactionTimeout.
        """
        with self._lock:
            self._check_open()
            try:
                self.sequence_numbers = self._commit()
            except BaseException:
                if self._state == OPEN:
                    self._end(ROLLED_BACK)
                raise
            self._end(COMMITTED)
            return self.sequence_numbers

    def rollback(self) -> None:
        """Forgets its messages; those that it was to ack stay leased to this consumer."""
        with self._lock:
            self._check_open()
            self._end(ROLLED_BACK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if self._state != ROLLED_BACK:  # in the block, on purpose
                self.commit()
        elif self.state == OPEN:
            self.rollback()

    def __repr__(self) -> str:
        return f"<Transaction {self.id!r} {self.state}, {len(self._parts)} messages, {len(self._settled)} acks>"

    def __reduce__(self) -> Any:
        raise TypeError("a Transaction stays in its process: begin one in the child")

    # -- within

    def _end(self, state: str) -> None:
        self._state = state
        self._parts, self._settled = [], []

    def _check_open(self) -> None:
        if self._pid != os.getpid():
            raise ForkedHandle(f"transaction {self.id!r} belongs to the parent process: begin one in the child")
        if self.state != OPEN:
            raise_ended(self.id, self._state, self.timeout)

    def _commit(self) -> list[int]:
        deliveries: list[Any] = []
        keep = bytearray()
        begun: list[Any] = []
        try:
            for message in self._settled:
                keep.append(message._commit_begin())
                begun.append(message)
                deliveries.append(ffi.cast("mqshm_delivery *", message._delivery))
            seqs = self._commit_in_core(deliveries, bytes(keep))
        except BaseException:
            for message in begun:
                message._commit_end(False, False)
            raise
        for message, kept in zip(begun, keep, strict=True):
            message._commit_end(True, bool(kept))
        return seqs

    def _commit_in_core(self, deliveries: list[Any], keep: bytes) -> list[int]:
        count = len(self._parts)
        parts, kept = ffi.new("mqshm_part[]", max(1, count)), []
        seqs, failed = ffi.new("uint64_t[]", max(1, count)), ffi.new("uint32_t *")
        settled = ffi.new("mqshm_delivery *[]", deliveries or 1)
        with self._attachment.use() as handle:
            while True:
                for part, (topic, data, made) in zip(parts, self._parts, strict=False):
                    envelope = ffi.new("mqshm_envelope *")
                    kept += [envelope, data_pointer := ffi.from_buffer(data), *made.fill(envelope)]
                    part.topic, part.data, part.size = self._front._topic(topic), data_pointer, len(data)
                    part.envelope = envelope
                code = lib.mqshm_commit(handle, parts, count, settled, keep, len(deliveries), seqs, failed)
                if code == lib.MQSHM_OK:
                    return list(ffi.unpack(seqs, count)) if count else []
                if code not in _NO_ROOM:
                    check(code)
                self._wait_for_room(handle, code, parts[failed[0]] if failed[0] < count else None)

    def _wait_for_room(self, handle: Any, code: int, part: Any) -> None:
        why = reason()
        left = -1 if self._ends is None else int((self._ends - time.monotonic()) * 1e9)
        if self._ends is not None and left <= 0:
            self._end(TIMED_OUT)
            raise TransactionTimeout(f"transaction {self.id!r} found no room for {self.timeout} s: {why}; rolled back")
        if part is None:
            raise_result(code, why)
        waited = lib.mqshm_wait_room(handle, part.topic, part.size, left)
        if waited not in (lib.MQSHM_OK, lib.MQSHM_TIMEOUT, lib.MQSHM_INTERRUPTED):
            raise_result(code, why)


def raise_ended(id: str, state: str, timeout: float | None) -> NoReturn:
    if state == COMMITTED:
        raise TransactionCommitted(f"transaction {id!r} was committed before")
    if state == TIMED_OUT:
        raise TransactionTimeout(f"transaction {id!r} took longer than its timeout of {timeout} s: it was rolled back")
    raise TransactionRolledBack(f"transaction {id!r} was rolled back before")


class Transactions:
    """Those of one Broker object, by id."""

    def __init__(self) -> None:
        self._open: dict[str, Transaction] = {}
        self._ended: OrderedDict[str, tuple[str, float | None]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, transaction: Transaction) -> Transaction:
        with self._lock:
            self._sweep()
            if transaction.id in self._open:
                raise InvalidMessage(f"transaction {transaction.id!r} is under way already: commit it or roll it back")
            self._ended.pop(transaction.id, None)
            self._open[transaction.id] = transaction
        return transaction

    def get(self, id: str) -> Transaction:
        with self._lock:
            self._sweep()
            if id in self._open:
                return self._open[id]
            ended = self._ended.get(id)
        if ended is None:
            raise TransactionNotFound(f"no transaction {id!r} was begun by this Broker object in this process")
        raise_ended(id, *ended)

    def _sweep(self) -> None:
        for id, transaction in list(self._open.items()):
            if transaction._pid != os.getpid():
                del self._open[id]
            elif transaction.state != OPEN:
                del self._open[id]
                self._ended[id] = (transaction.state, transaction.timeout)
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)


def new_id() -> str:
    return f"{os.getpid()}-{next(_numbers)}"
