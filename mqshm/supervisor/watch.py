"""The loop: who is attached, who died, what is due, who has left.

One thread sleeps in the core until something is due, and is rung when somebody attaches or leaves; it does what is due.
The other sleeps in poll on a pidfd for each attached process, so that a death is met when it happens, and on what
signals write. Nothing runs while nothing happens, but for a look around each second.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mqshm._native import check, ffi, lib, reason
from mqshm.errors import MQError
from mqshm.supervisor import log
from mqshm.supervisor.policy import Action, History, Policy, once_more

_LOOK = 1.0
_LOOK_WITHOUT_PIDFD = 0.025
"""Seconds between two looks at peers whose death no pidfd tells: those of another pid namespace."""
_SLICE_NS = 1_000_000_000
_PANICS = Policy(max_restarts=20, period=10.0)


class TooManyPanics(MQError):
    """The loop failed again and again."""


@dataclass(frozen=True)
class _Peer:
    row: int
    pid: int
    start_ticks: int


class Watch:
    """What is called, is called by the thread in `run`."""

    def __init__(self, handle: Any, name: str, done: Callable[[], bool]) -> None:
        self.handle = handle
        self.name = name
        self.done = done
        """Asked after each look, with the users counted: whether to end."""
        self.users = 0
        self.wait = _LOOK
        """Seconds to the next look, unless something happens; `done` may lower it."""
        self.panics = 0
        self._panic_times: History = ()
        self._calls: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._pidfds: dict[_Peer, int | None] = {}
        self._namespace = os.stat("/proc/self/ns/pid").st_ino
        self._stopping = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._bell, self._rung)

    def run(self) -> None:
        sleeper = threading.Thread(target=self._sleep, name="mqshm-watch")
        sleeper.start()
        try:
            while not self._guard(self._round):
                pass
        finally:
            self._stopping = True
            lib.mqshm_ring_bell(self.handle)
            sleeper.join()
            for fd in self._pidfds.values():
                if fd is not None:
                    os.close(fd)
            os.close(self._bell)

    def watch(self, fd: int, call: Callable[[], None]) -> None:
        """`call` when the descriptor can be read, or hangs up."""
        self._calls[fd] = call
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        del self._calls[fd]
        self._poll.unregister(fd)

    def _guard(self, step: Callable[[], bool]) -> bool:
        """An exception is said, and the loop goes on; not for ever where it always comes."""
        try:
            return step()
        except Exception as error:
            self.panics += 1
            action, self._panic_times = once_more(_PANICS, self._panic_times, time.monotonic())
            log.panic("panic", broker=self.name, panics=self.panics)
            lib.mqshm_count_trouble(self.handle, lib.MQSHM_TROUBLE_PANIC)
            if action is Action.GIVE_UP:
                raise TooManyPanics(f"the supervisor of broker {self.name!r} failed too often: {error}") from error
            return False

    def _round(self) -> bool:
        self.wait = _LOOK
        self._look()
        if self.done():
            return True
        without = any(fd is None for fd in self._pidfds.values())
        seconds = min(self.wait, _LOOK_WITHOUT_PIDFD) if without else self.wait
        for fd, _ in self._poll.poll(seconds * 1000):
            call = self._calls.get(fd)  # one before it may have taken it away
            if call is not None:
                call()
        return False

    def _look(self) -> None:
        """Peers as they are now: a pidfd for each, and repair after each that is dead."""
        seen = {}
        dead = False
        for peer, alive in self._peers():
            dead = dead or not alive
            seen[peer] = alive
        if dead:
            self._reap()
            seen = dict(self._peers())
        for peer in [known for known in self._pidfds if known not in seen]:
            self._forget(peer)
        for peer in seen:
            if peer not in self._pidfds:
                self._pidfds[peer] = self._open(peer)
        users = ffi.new("uint32_t *")
        check(lib.mqshm_users(self.handle, users))
        self.users = int(users[0])

    def _peers(self) -> Iterator[tuple[_Peer, bool]]:
        out = ffi.new("mqshm_peer_stats *")
        row = 1
        while (code := lib.mqshm_peer_stats_get(self.handle, row, out)) != lib.MQSHM_INVALID:
            if code == lib.MQSHM_OK:
                here = out.pid_ns == self._namespace
                if not (here and out.pid == os.getpid()):
                    yield _Peer(row, out.pid if here else 0, out.start_ticks), bool(out.alive)
            elif code != lib.MQSHM_NOT_FOUND:
                check(code)
            row += 1

    def _open(self, peer: _Peer) -> int | None:
        """None: its death is looked for. A pid may be another's by now, but not while the peer is found alive after."""
        try:
            fd = os.pidfd_open(peer.pid) if peer.pid else None
        except (OSError, AttributeError):
            return None
        if fd is not None:
            self.watch(fd, lambda: self._died(peer))
        return fd

    def _died(self, peer: _Peer) -> None:
        """Its pidfd stays readable: it is watched no more."""
        self._forget(peer)
        self._pidfds[peer] = None  # looked for, in the odd case that its row is still held
        self._reap()

    def _forget(self, peer: _Peer) -> None:
        fd = self._pidfds.pop(peer)
        if fd is not None:
            self.unwatch(fd)
            os.close(fd)

    def _reap(self) -> None:
        dead = ffi.new("uint32_t *")
        check(lib.mqshm_reap(self.handle, dead))
        if dead[0]:
            log.event("repaired after deaths", broker=self.name, deaths=int(dead[0]))

    def _rung(self) -> None:
        os.eventfd_read(self._bell)

    def _sleep(self) -> None:
        """The other thread."""
        while not self._stopping:
            code = lib.mqshm_watch(self.handle, _SLICE_NS)
            if code not in (lib.MQSHM_OK, lib.MQSHM_TIMEOUT):
                log.warning("watching failed", broker=self.name, reason=reason())
                time.sleep(_LOOK)
            if code != lib.MQSHM_TIMEOUT:
                os.eventfd_write(self._bell, 1)
