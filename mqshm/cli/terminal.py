"""The terminal while a verb has all of it: keys as they are pressed, a screen of its own, and as it was afterwards."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from types import FrameType, TracebackType
from typing import NoReturn

_ARROWS = {b"\x1b[D": "<", b"\x1b[C": ">", b"\x1bOD": "<", b"\x1bOC": ">"}
_ENTER, _LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"


def is_one() -> bool:
    return sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Keys:
    """`with` it, keys need no Enter and are not shown."""

    def __enter__(self) -> Keys:
        self._fd = sys.stdin.fileno()
        self._was = termios.tcgetattr(self._fd)
        self._handler = signal.signal(signal.SIGTERM, _leave)
        tty.setcbreak(self._fd)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._was)
        signal.signal(signal.SIGTERM, self._handler)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()

    def wait(self, seconds: float) -> str:
        """The next key, or nothing after so many seconds. The terminal's end is a q."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return ""
        pressed = os.read(self._fd, 16)
        return "q" if not pressed else _ARROWS.get(pressed, pressed[:1].decode("ascii", "replace").lower())


class NoKeys:
    """Where there is no terminal."""

    def __enter__(self) -> NoKeys:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, seconds: float) -> str:
        time.sleep(seconds)
        return ""


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
