"""publish, receive and settle through the C front (mqshm._front), with what that leaves to Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from mqshm import _common, _front
from mqshm._common import NORMAL_RING, Received, Sending, Taking

_table = 0


def bind(address: int, raise_result: Callable[..., NoReturn]) -> None:
    """`address` is that of the core's functions for the C front (mqshm_front)."""
    global _table
    _table = address
    _common.bind(address, raise_result)
    _front.bind(address, 0)


def forked() -> None:
    """In a forked child, before anything else."""
    _front.bind(_table, _common.forked())


@lru_cache(maxsize=1)  # one pair for all receivers that nobody observes
def _classes(message_class: type) -> tuple[type, type]:
    """For messages that have a copy of their payload from the start, so that `data` is a plain slot, and for others."""
    eager = type(message_class.__name__, (message_class,), {"__slots__": (), "data": _front.Message._copy})
    return _front.untracked(eager), _front.untracked(message_class)


class Front(Sending, _front.Front):
    def __new__(cls, handle: int, *_: Any) -> Front:
        made: Front = _front.Front.__new__(cls, handle)
        return made

    def alone(self) -> None:
        super().alone()
        self._waiting = 0

    def publish_batch(self, topic: str, items: Any, *args: Any, **options: Any) -> Sequence[int]:
        if type(items) in (list, tuple) and not (args or options):
            snapshot = tuple(items)
            seqs: Sequence[int] | None = self._publish_batch(topic, snapshot)
            if seqs is not None:
                done = len(seqs)
                if done == len(snapshot):
                    return seqs
                return self.publish_batch_full(topic, snapshot[done:], NORMAL_RING, -1, seqs)
        seqs = self._slow_publish_batch(topic, items, *args, **options)
        return seqs

    def _slow(self, values: tuple[Any, ...], names: tuple[str, ...] | None) -> int:
        """A publish with options, or that did not succeed at once."""
        if names is None:
            return self._slow_publish(*values)
        count = len(values) - len(names)
        return self._slow_publish(*values[:count], **dict(zip(names, values[count:], strict=True)))

    def _busy(self) -> bool:
        return bool(self._waiting) or super()._busy()


class Receiver(Taking, _front.Receiver):
    def __new__(cls, front: Front, sub: int, ack: int, message_class: type) -> Receiver:
        made: Receiver = _front.Receiver.__new__(cls, front, sub, ack, *_classes(message_class))
        return made


class Message(Received, _front.Message):
    __slots__ = ()

    view = property(memoryview, doc="The payload where it lies.")
