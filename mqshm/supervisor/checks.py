"""The supervisor's own looks at the broker's health: each reason is said when it comes, and when it has gone.

In a thread of its own: a look takes a few milliseconds, and the first one, which loads what it needs, some hundred.
"""

from __future__ import annotations

import threading
from typing import Any

from mqshm import _native
from mqshm._native import check, ffi, lib
from mqshm.errors import MQError
from mqshm.health import HealthStatus, Reason, Thresholds
from mqshm.supervisor import log

_OFF = 1.0
"""Seconds until it is asked again whether there are to be looks, where the configuration says that there are none."""

_Key = tuple[str, str | None]


class Checks:
    """From `start` to `stop`, one look each health_check_interval seconds."""

    def __init__(self, name: str, handle: Any, fd: int) -> None:
        self._name = name
        self._handle = handle
        self._fd = fd
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqshm-health", daemon=True)
        self._known: dict[_Key, Reason] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the handle is not looked at any more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        vitals = None
        while not self._stop.wait(self._interval() or _OFF):
            if not self._interval():
                continue
            try:
                if vitals is None:
                    from mqshm.vitals import Vitals  # numpy and psutil: not before they are needed

                    vitals = Vitals(self._name)
                self._known = tell(self._name, vitals.look(self._handle, self._fd, Thresholds()), self._known)
            except Exception:
                log.panic("a look at the broker's health failed", broker=self._name)

    def _interval(self) -> float:
        out = ffi.new("mqshm_config *")
        try:
            check(lib.mqshm_config_get(self._handle, out))
            return _native.config_from_core(out).health_check_interval
        except MQError:
            return 0.0  # damaged: the looks begin again when it has been put right


def tell(name: str, seen: HealthStatus, known: dict[_Key, Reason]) -> dict[_Key, Reason]:
    """Logs what has changed since `known`; returns what is known now."""
    now = {(reason.code, reason.subject): reason for reason in seen.reasons}
    for key in now.keys() - known.keys():
        reason = now[key]
        log.warning(
            "health", broker=name, status=seen.status, code=reason.code, severity=reason.severity,
            subject=reason.subject, text=reason.text, advice=reason.advice,
        )  # fmt: skip
    for key in known.keys() - now.keys():
        log.event("health again", broker=name, status=seen.status, code=key[0], subject=key[1])
    return now
