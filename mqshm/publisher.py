"""Publishing with all its options. The front calls this for whatever is more than (topic, bytes)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mqshm import message as _message
from mqshm._native import timeout_ns
from mqshm.errors import MQError
from mqshm.message import Message, Priority, payload, prepared, ring_of
from mqshm.topics import validate_topic
from mqshm.transaction import Transactions

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from mqshm.headers import Headers

_PLAIN = _message.Envelope()


class Publisher:
    """Stands behind the front of one Broker, which calls it. `front` is set once it is there."""

    front: Any

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions

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
        timeout: float | None = None,
        tx: str | None = None,
    ) -> int:
        """Publishes one message to all subscriptions that match the topic, or to none, and returns its sequence number.

        `data` is bytes-like, a str (sent as UTF-8), or a `Message` that brings all of its options but `timeout`.
        `timeout` is how many seconds to wait where there is no room (None: for ever, 0: not at all); then QueueFull
        or MemoryLimitExceeded. With `tx`, the id of a transaction that was begun here, it is published by that
        transaction's commit, and has no number before (0). The other options are those of `Message`.
        """
        if tx is not None:
            self.transactions.get(tx).publish(
                topic, data, id=id, priority=priority, ttl=ttl, delay=delay, headers=headers, key=key,
                ack_timeout=ack_timeout,
            )  # fmt: skip
            return 0
        given, made = prepared(data, id, priority, ttl, delay, headers, key, ack_timeout)
        return self._one(topic, given, made, timeout_ns(timeout))

    def publish_batch(
        self,
        topic: str,
        messages: Iterable[Buffer | str | Message],
        *,
        priority: int = Priority.NORMAL,
        timeout: float | None = None,
    ) -> Sequence[int]:
        """Publishes the messages one after the other and returns their sequence numbers.

        Each is bytes-like or a str, sent with `priority`, or a `Message`. Each is in all its subscriptions or in none,
        but the batch is not a transaction: where one cannot be published, be it a duplicate or that there is no room
        for `timeout` seconds (None: for ever), the error has the numbers of those before it, which are in, in
        `sequence_numbers`. Arguments that are no messages are found before anything is published.
        """
        if isinstance(messages, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"publish_batch takes a list of payloads, not one {type(messages).__name__}")
        if not isinstance(messages, Iterable):
            raise TypeError(f"publish_batch takes a list of payloads, not {type(messages).__name__}")
        validate_topic(topic)
        ring = ring_of(priority)
        items = list(messages)
        wait = timeout_ns(timeout)
        if not any(isinstance(item, Message) for item in items):
            seqs: Sequence[int] = self.front.publish_batch_full(topic, [payload(item) for item in items], ring, wait)
            return seqs
        return self._mixed_batch(topic, items, ring, wait)

    def _mixed_batch(self, topic: str, items: list[Any], ring: int, wait: int) -> list[int]:
        """Runs of plain payloads cross at once, each Message alone."""
        seqs: list[int] = []
        run: list[Any] = []
        made = [
            (payload(item.data), item.envelope) if isinstance(item, Message) else (payload(item), None)
            for item in items
        ]
        ends = None if wait < 0 else time.monotonic_ns() + wait

        def left() -> int:
            return -1 if ends is None else max(0, ends - time.monotonic_ns())

        try:
            for data, envelope in made:
                if envelope is None or envelope == _PLAIN._replace(ring=ring):
                    run.append(data)
                    continue
                if run:
                    seqs += self.front.publish_batch_full(topic, run, ring, left())
                    run = []
                seqs.append(self._one(topic, data, envelope, left()))
            if run:
                seqs += self.front.publish_batch_full(topic, run, ring, left())
        except MQError as error:
            error.sequence_numbers = [*seqs, *error.sequence_numbers]
            raise
        return seqs

    def _one(self, topic: str, data: Any, made: _message.Envelope, wait: int) -> int:
        validate_topic(topic)
        seq: int = self.front.publish_full(
            topic, payload(data), made.ring, made.id, made.headers, made.key, made.expires_ns(), made.delay_ms,
            made.ack_ms, wait,
        )  # fmt: skip
        return seq
