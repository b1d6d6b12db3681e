"""Signals for a loop that sleeps in poll: a flag for each, and a descriptor that can be read when one came."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP = (signal.SIGTERM, signal.SIGINT)


class Signals:
    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        """The first that asked for an end."""
        self.stops = 0
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def drain(self) -> None:
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.stop = self.stop or signal.Signals(number)
        self.stops += 1

    def _child(self, number: int, _frame: FrameType | None) -> None:
        """Writing to the descriptor, which Python does for each signal that has a handler, is all."""


@contextmanager
def caught() -> Iterator[Signals]:
    """In the main thread; what was set before is set again at the end."""
    signals = Signals()
    handlers = {**dict.fromkeys(STOP, signals._stop), signal.SIGCHLD: signals._child}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    woken_before = signal.set_wakeup_fd(signals._write, warn_on_full_buffer=False)
    try:
        yield signals
    finally:
        signal.set_wakeup_fd(woken_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(signals.fd)
        os.close(signals._write)
