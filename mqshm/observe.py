"""The one place that every operation passes where somebody observes. Where nobody does, nothing here is called."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any, TypeVar

_log = logging.getLogger("mqshm")
_Call = TypeVar("_Call", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """What was done, as an observer is told after it."""

    op: str
    """Name of the method: publish, receive, ack, subscribe and so on."""
    topic: str | None
    """Topic or pattern that it was about, where there is one."""
    seconds: float
    """How long it took, waiting included."""
    error: BaseException | None
    """What it raised, or None."""


Observer = Callable[[Operation], object]


def observed(observer: Observer, op: str, call: _Call, topic: Callable[[tuple[Any, ...], Any], str | None]) -> _Call:
    """`call`, reported to the observer each time. `topic` finds the topic in the arguments and the result (None where
    the call failed)."""

    @wraps(call)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        result: Any = None
        error: BaseException | None = None
        start = perf_counter()
        try:
            result = call(*args, **kwargs)
            return result
        except BaseException as raised:
            error = raised
            raise
        finally:
            report(observer, Operation(op, topic(args, result), perf_counter() - start, error))

    return reporting  # type: ignore[return-value]  # the same signature, which wraps() cannot say


def report(observer: Observer, operation: Operation) -> None:
    """An observer's own error must not undo what has happened: it is logged."""
    try:
        observer(operation)
    except Exception:
        _log.exception("the observer raised on %s", operation)


def topic_argument(args: tuple[Any, ...], _result: Any) -> str | None:
    """The first argument, for operations whose first argument is a topic, a pattern or a group."""
    return args[0] if args and isinstance(args[0], str) else None


def topic_of_result(_args: tuple[Any, ...], result: Any) -> str | None:
    """The topic of the message, or of the first of the messages, that was received."""
    if isinstance(result, list):
        result = result[0] if result else None
    return getattr(result, "topic", None)
