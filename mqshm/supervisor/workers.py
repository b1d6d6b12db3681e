"""Children that run something, kept running: started, restarted by policy, stopped in order.

The parent does nothing but that: it has no thread, and is attached to no broker, so a child is a plain fork of it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from mqshm.errors import MQError
from mqshm.supervisor import log
from mqshm.supervisor.policy import NEVER_WORKS, Action, History, Policy, after_end
from mqshm.supervisor.signals import STOP, Signals

_PR_SET_PDEATHSIG = 1


class GivenUp(MQError):
    """What was run ended too often, or can never work."""


@dataclass
class Workers:
    what: str
    """That they do, for people."""
    work: Callable[[], int]
    """In the child; returns its exit code."""
    count: int
    policy: Policy
    grace: float
    """Seconds that children have to end once they are asked to; then they are killed."""

    def run(self, signals: Signals) -> None:
        """Until a signal asks for the end, or every child has left; GivenUp where they end again and again."""
        self._history: History = ()
        self._pids: set[int] = set()
        self._gave_up: str | None = None
        self._poll = select.poll()
        self._poll.register(signals.fd, select.POLLIN)
        for _ in range(self.count):
            self._start()
        try:
            while self._pids and signals.stop is None and self._gave_up is None:
                self._next(signals, None)
        finally:
            self._stop(signals)
        if self._gave_up is not None:
            raise GivenUp(self._gave_up)

    def _start(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # until the child meets them as its own
        pid = os.fork()
        if pid == 0:
            os._exit(_as_child(self.work, parent))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
        self._pids.add(pid)
        log.event("worker started", worker=pid, runs=self.what)

    def _next(self, signals: Signals, timeout: float | None) -> None:
        """Sleeps until a signal comes, and meets the ends of children."""
        self._poll.poll(None if timeout is None else timeout * 1000)
        signals.drain()
        for pid in list(self._pids):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ended(pid, os.waitstatus_to_exitcode(status), signals)

    def _ended(self, pid: int, code: int, signals: Signals) -> None:
        self._pids.remove(pid)
        how = f"exit code {code}" if code >= 0 else _signal_name(-code)
        log.event("worker ended", worker=pid, runs=self.what, how=how)
        if signals.stop is not None or self._gave_up is not None:
            return
        action, self._history = after_end(self.policy, code, self._history, time.monotonic())
        if action is Action.RESTART:
            self._start()
        elif action is Action.GIVE_UP and code == NEVER_WORKS:
            self._gave_up = f"{self.what} cannot be run"
        elif action is Action.GIVE_UP:
            times = f"{len(self._history)} times within {self.policy.period:g} s"
            self._gave_up = f"{self.what} ended {times}, the last time by {how}: given up"

    def _stop(self, signals: Signals) -> None:
        """In order: each ends after the message in its hands. Killed where that takes too long, or at a second signal;
        then the message is delivered again."""
        self._send(signal.SIGTERM)
        if signals.stop is not None:
            log.event("stopping", signal=signals.stop.name, workers=sorted(self._pids), runs=self.what)
        ends = time.monotonic() + self.grace
        while self._pids and (left := ends - time.monotonic()) > 0 and signals.stops < 2:
            self._next(signals, left)
        if self._pids:
            log.warning("workers killed", workers=sorted(self._pids), runs=self.what)
            self._send(signal.SIGKILL)
        while self._pids:
            self._next(signals, None)

    def _send(self, number: int) -> None:
        for pid in self._pids:  # not waited for yet, so the number is still that child's
            os.kill(pid, number)


def _as_child(work: Callable[[], int], parent: int) -> int:
    """Never returns into the parent's code. The child ends with its parent, whatever ends that."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in STOP:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        return work() if os.getppid() == parent else 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        log.panic("worker failed", worker=os.getpid())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
