"""The supervisor's process: attached, elected, stopped by a signal, gone with its last user."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from mqshm import _native, segment
from mqshm._native import check, ffi, lib
from mqshm.config import Config
from mqshm.errors import BrokerExists, BrokerNotFound, MQError, Timeout
from mqshm.segment import Attachment
from mqshm.supervisor import log, signals
from mqshm.supervisor.checks import Checks
from mqshm.supervisor.signals import Signals
from mqshm.supervisor.watch import Watch

_LINGER = 1.0
"""Seconds without a user before it ends: not every short program of many starts a supervisor of its own."""
_HAND_OVER = 5.0


def detached(name: str) -> int:
    """As a user's process starts it. 0 where there is another already, or nothing to supervise."""
    log.to_file_of_environment()
    with signals.caught() as caught:
        try:
            attachment = segment.attach(name, False, Config(), 0, lib.MQSHM_SUPERVISOR)
        except BrokerNotFound:
            return 0
        try:
            with attachment.use() as handle:
                if lib.mqshm_supervise(handle) != lib.MQSHM_OK:
                    log.event("not elected", broker=name)
                    return 0
                return _Reign(attachment, handle, caught, True).run()
        finally:
            attachment.release()


def foreground(name: str, settings: Mapping[str, Any]) -> int:
    """`mqshm up`: makes the broker where it is not there, and watches until a signal comes. `settings` are fields of
    its configuration, which are set also where it is there."""
    log.to_stderr()
    with signals.caught() as caught:
        attachment = segment.attach(name, True, Config().replace(**settings), 0o600, lib.MQSHM_FOREGROUND)
        try:
            with attachment.use() as handle:
                _take_over(name, handle)
                _configure(handle, settings)
                return _Reign(attachment, handle, caught, False).run()
        finally:
            attachment.release()


def _configure(handle: Any, settings: Mapping[str, Any]) -> None:
    core = ffi.new("mqshm_config *")
    check(lib.mqshm_config_get(handle, core))
    config = _native.config_from_core(core)
    if config != config.replace(**settings):
        check(lib.mqshm_config_set(handle, _native.config_to_core(config.replace(**settings))))


def _take_over(name: str, handle: Any) -> None:
    """One that a user's process has started gives way; one in the foreground does not."""
    ends, asked = time.monotonic() + _HAND_OVER, 0
    while (code := lib.mqshm_supervise(handle)) == lib.MQSHM_EXISTS:
        for pid, role in _supervisors(handle):
            if role == lib.MQSHM_FOREGROUND:
                raise BrokerExists(f"broker {name!r} is up already: process {pid} watches it")
            if pid != asked:
                os.kill(pid, signal.SIGTERM)
                asked = pid
        if time.monotonic() > ends:
            raise Timeout(f"broker {name!r} has a supervisor, process {asked}, that does not give way: is it stopped?")
        time.sleep(0.002)
    check(code)


def _supervisors(handle: Any) -> list[tuple[int, int]]:
    out, row, found = ffi.new("mqshm_peer_stats *"), 1, []
    while (code := lib.mqshm_peer_stats_get(handle, row, out)) != lib.MQSHM_INVALID:
        if code == lib.MQSHM_OK and out.role != lib.MQSHM_USER and out.alive and out.pid != os.getpid():
            found.append((int(out.pid), int(out.role)))
        row += 1
    return found


class _Reign:
    """From the election to the end."""

    def __init__(self, attachment: Attachment, handle: Any, caught: Signals, leaves: bool) -> None:
        self.attachment = attachment
        self.handle = handle
        self.caught = caught
        self.leaves = leaves
        """Whether it ends with its last user."""
        self.alone_since: float | None = None
        self.over = False
        """Ended or resigned: nothing of the broker is this process's business any more."""

    def run(self) -> int:
        name = self.attachment.name
        log.event("watching", broker=name, foreground=not self.leaves)
        watch = Watch(self.handle, name, lambda: self._done(watch))
        watch.watch(self.caught.fd, self.caught.drain)
        checks = Checks(name, self.handle, self.attachment.descriptors[0])
        checks.start()
        code = 0
        try:
            watch.run()
        except MQError as error:
            log.panic("gave up", broker=name)
            print(f"mqshm: {error}", file=sys.stderr)
            code = 1
        finally:
            checks.stop()
        if self.caught.stop is not None:
            log.event("stopped", broker=name, signal=self.caught.stop.name)
        if not self.over and not self._end():
            check(lib.mqshm_resign(self.handle, 1))
        return code

    def _done(self, watch: Watch) -> bool:
        if self.caught.stop is not None:
            return True
        if not self.leaves or watch.users:
            self.alone_since = None
            return False
        now = time.monotonic()
        self.alone_since = self.alone_since or now
        watch.wait = self.alone_since + _LINGER - now
        if watch.wait > 0:
            return False
        self.alone_since = None
        self.over = self._end() or lib.mqshm_resign(self.handle, 0) == lib.MQSHM_OK
        if self.over:
            log.event("no user left", broker=self.attachment.name)
        return self.over

    def _end(self) -> bool:
        """A broker that nobody uses, and that holds nothing that anybody could miss, ends with its supervisor."""
        if lib.mqshm_end(self.handle) != lib.MQSHM_OK:
            return False
        if segment.bury(self.attachment.name, self.attachment.descriptors[0]):
            log.event("removed", broker=self.attachment.name)
        return True
