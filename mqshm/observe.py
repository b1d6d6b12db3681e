"""The one place that every operation passes where somebody observes. Where nobody does, nothing here is called."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any, TypeVar

_log = logging.getLogger("mqshm")
_Call = TypeVar("_Call", bound=Callable[..., Any])
_Topic = Callable[[tuple[Any, ...], Any], str | None]


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
    panic: BaseException | None = None
    """What the handler raised (the block of `with message:`), of which this is the nack; or None."""


Observer = Callable[[Operation], object]


class Watch:
    """An observer, called after each operation and never in its way.

    What the observer raises is counted by `panicked`, and logged the first time. What it does with the broker itself is
    not reported to it again.
    """

    def __init__(self, observer: Observer, panicked: Callable[[], object]) -> None:
        self._observer = observer
        self._panicked = panicked
        self._warned = False
        self._inside = threading.local()

    def observed(self, op: str, call: _Call, topic: _Topic) -> _Call:
        """`call`, reported each time. `topic` finds the topic in the arguments and the result (None where the call
        failed)."""
        if inspect.iscoroutinefunction(call):
            return self._observed_async(op, call, topic)

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
                self.report(op, start, error, topic, args, result)

        return reporting  # type: ignore[return-value]  # the same signature, which wraps() cannot say

    def _observed_async(self, op: str, call: _Call, topic: _Topic) -> _Call:
        @wraps(call)
        async def reporting(*args: Any, **kwargs: Any) -> Any:
            result: Any = None
            error: BaseException | None = None
            start = perf_counter()
            try:
                result = await call(*args, **kwargs)
                return result
            except BaseException as raised:
                error = raised
                raise
            finally:
                self.report(op, start, error, topic, args, result)

        return reporting  # type: ignore[return-value]  # as above

    def report(
        self, op: str, start: float, error: BaseException | None, topic: _Topic, args: tuple[Any, ...],
        result: Any = None, panic: BaseException | None = None,
    ) -> None:  # fmt: skip
        """`start` is of perf_counter. Nothing but Ctrl-C comes out of here: what has happened is not undone."""
        seconds = perf_counter() - start
        if getattr(self._inside, "now", False):
            return
        self._inside.now = True
        try:
            self._observer(Operation(op, _found(topic, args, result), seconds, error, panic))
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._failed(op)
        finally:
            self._inside.now = False

    def _failed(self, op: str) -> None:
        if not self._warned:
            self._warned = True
            _log.exception("the observer raised on %s; from now on that is only counted, see health_check()", op)
        try:
            self._panicked()
        except Exception:
            pass  # closed meanwhile: there is nobody left to count it for


def _found(topic: _Topic, args: tuple[Any, ...], result: Any) -> str | None:
    try:
        return topic(args, result)
    except Exception:
        return None  # a message of a broker that was closed has no topic any more


def topic_argument(args: tuple[Any, ...], _result: Any) -> str | None:
    """The first argument, for operations whose first argument is a topic, a pattern or a group."""
    return args[0] if args and isinstance(args[0], str) else None


def topic_of_result(_args: tuple[Any, ...], result: Any) -> str | None:
    """The topic of the message, or of the first of the messages, that was received."""
    if isinstance(result, list):
        result = result[0] if result else None
    return getattr(result, "topic", None)


def topic_of_message(args: tuple[Any, ...], _result: Any) -> str | None:
    """The topic of the message, or of the first of the messages, that is settled."""
    first = args[0] if args else None
    if isinstance(first, (list, tuple)):
        first = first[0] if first else None
    return getattr(first, "topic", None)
