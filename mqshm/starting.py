"""A broker's supervisor, started by one of its users where there is none.

The user names the program once; from then on the core starts it whenever this process, in passing, finds that nobody
watches. It is nobody's child: a session of its own, no descriptor, and no wait for its end.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

from mqshm import _native
from mqshm._native import check, ffi, lib
from mqshm.errors import InvalidConfig, Timeout
from mqshm.segment import Attachment

_PATIENCE = 5.0
_NO = ("0", "no", "off", "false")
_PROGRAM = Path(__file__).parent / "supervisor" / "__main__.py"


def wanted(asked: bool | None) -> bool:
    """What `supervisor=` of connect means: None is yes, but where the environment has MQSHM_SUPERVISOR=0."""
    if asked is not None and not isinstance(asked, bool):
        raise InvalidConfig(f"supervisor is True, False or None, not {asked!r}")
    return os.environ.get("MQSHM_SUPERVISOR", "").lower() not in _NO if asked is None else asked


def ensure(attachment: Attachment, asked: bool | None) -> None:
    """Returns when somebody watches. Where that cannot be had: an exception for who asked for it, a warning for who
    did not say, since messages go their way without."""
    problem = _without_interpreter() or _start(attachment)
    if problem is None:
        return
    advice = f"run `mqshm up {attachment.name}`, or connect with supervisor=False"
    if asked:
        raise Timeout(f"{problem}: {advice}")
    warnings.warn(f"broker {attachment.name!r} has no supervisor: {problem}: {advice}", RuntimeWarning, stacklevel=3)


def _without_interpreter() -> str | None:
    if sys.executable and not getattr(sys, "frozen", False) and _PROGRAM.is_file():
        return None
    return "a program that Python is built into cannot start one, for it has no interpreter to run it with"


def _start(attachment: Attachment) -> str | None:
    with attachment.use() as handle:
        words = [ffi.new("char[]", os.fsencode(word)) for word in (sys.executable, str(_PROGRAM), attachment.name)]
        check(lib.mqshm_supervisor_command(handle, ffi.new("char *[]", [*words, ffi.NULL])))
        ends, pause = time.monotonic() + _PATIENCE, 0.001
        while (code := lib.mqshm_supervisor_start(handle)) == lib.MQSHM_EMPTY and time.monotonic() < ends:
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        if code == lib.MQSHM_EMPTY:
            return f"{sys.executable} was started to run one, and none came within {_PATIENCE:.0f} s"
        return None if code == lib.MQSHM_OK else _native.reason()
