"""A worker: receives from a group, and calls a function with each message.

The message is acked when the function returns, and nacked when it raises: then it is delivered again after the group's
back-off, up to max_attempts. What the function settles itself stays as it has settled it.
"""

from __future__ import annotations

import importlib
import inspect
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from mqshm.broker import connect
from mqshm.errors import AlreadySettled, InvalidConfig, LeaseLost, MQError
from mqshm.message import AckPolicy, Delivery
from mqshm.supervisor import log
from mqshm.supervisor.policy import NEVER_WORKS

_LOOK = 0.2
"""Seconds between two looks at whether to stop, where no message comes."""

Handler = Callable[[Delivery], Any]


@dataclass(frozen=True)
class Work:
    broker: str
    pattern: str
    target: str
    """module:function"""
    group: str
    ack_timeout: float | None = None
    """Seconds of a lease; None: as long as the worker lives, or as the group that is there has it."""
    end_on_error: bool = False
    """Whether a message that the function failed on ends the worker."""

    def __call__(self) -> int:
        """The exit code."""
        stopping = _Stopping()
        signal.signal(signal.SIGTERM, stopping)
        try:
            return self._receive(load(self.target), stopping)
        except InvalidConfig as error:  # of a group that is there with other options, too
            sys.stderr.write(f"mqshm: {error}\n")  # in one piece, beside what others write there
            return NEVER_WORKS
        except MQError as error:
            log.warning("worker failed", reason=str(error))
            return 1

    def _receive(self, handler: Handler, stopping: _Stopping) -> int:
        ack = None if self.ack_timeout is None else AckPolicy.TIMEOUT
        with (
            connect(self.broker) as broker,
            broker.subscribe(self.pattern, group=self.group, ack=ack, ack_timeout=self.ack_timeout) as subscription,
        ):
            while not stopping.asked:
                message = subscription.receive(timeout=_LOOK)
                if message is not None and not handle(handler, message) and self.end_on_error:
                    return 1
        return 0


class _Stopping:
    """SIGTERM: end after the message in hand."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def handle(handler: Handler, message: Delivery) -> bool:
    """Whether the handler was done with it. What it raises besides an Exception goes through, after a nack."""
    about = {"topic": message.topic, "seq": message.seq, "id": message.id, "attempt": message.attempt}
    try:
        with message:
            handler(message)
    except (LeaseLost, AlreadySettled) as error:
        log.warning("not settled", reason=str(error), **about)
    except Exception:
        log.panic("handler failed", **about)
        return False
    return True


def load(target: str) -> Handler:
    """The function that `module:function` names; InvalidConfig where there is none to call with a message."""
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise InvalidConfig(f"{target!r} is not of the form module:function")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise InvalidConfig(f"{target!r}: no module {error.name!r} in {', '.join(sys.path[:3])}, ...") from None
    except AttributeError as error:
        raise InvalidConfig(f"{target!r}: {error}") from None
    if not callable(found):
        raise InvalidConfig(f"{target!r} is a {type(found).__name__}, not a function")
    if inspect.iscoroutinefunction(found):
        raise InvalidConfig(f"{target!r} is a coroutine function: a worker calls plain ones")
    handler: Handler = found
    return handler
