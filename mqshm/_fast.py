"""publish, receive and settle through the C front (mqshm._front), with what that leaves to Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from mqshm import _common, _front
from mqshm._common import Received, Sending, Taking

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


class Front(Sending, _front.Front):  # type: ignore[misc]  # C has no types
    def __new__(cls, handle: int, *_: Any) -> Front:
        made: Front = _front.Front.__new__(cls, handle)
        return made

    def alone(self) -> None:
        super().alone()
        self._waiting = 0

    def _busy(self) -> bool:
        return bool(self._waiting) or super()._busy()


class Receiver(Taking, _front.Receiver):  # type: ignore[misc]
    pass


class Message(Received, _front.Message):  # type: ignore[misc]
    __slots__ = ()
