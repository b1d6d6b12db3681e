"""What to do when a child ends, or something fails: decisions, without a process in sight.

Children are restarted one for one: the end of one is no matter to the others. Whoever ends too often in too short a
time is not restarted for ever: that is its restart intensity.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mqshm.errors import InvalidConfig


class Restart(enum.Enum):
    """After which ends a child is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    """Unless it ended with exit code 0."""
    NEVER = "never"


NEVER_WORKS = 78
"""Exit code (sysexits' EX_CONFIG) of a child that would end in the same way each time: it is not restarted."""


class Action(enum.Enum):
    RESTART = enum.auto()
    LEAVE = enum.auto()
    """It has done what it was for."""
    GIVE_UP = enum.auto()
    """It ends again and again: nothing is restarted any more."""


@dataclass(frozen=True)
class Policy:
    restart: Restart = Restart.ALWAYS
    max_restarts: int = 5
    """More restarts than this within `period` are too many."""
    period: float = 10.0
    """Seconds."""

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise InvalidConfig(f"max_restarts is at least 0, not {self.max_restarts}")
        if not self.period > 0:
            raise InvalidConfig(f"the period of the restart intensity is over 0 seconds, not {self.period}")


History = tuple[float, ...]
"""When restarts happened, in seconds of any clock; the oldest first."""


def after_end(policy: Policy, code: int, history: History, now: float) -> tuple[Action, History]:
    """What to do about a child that ended with this exit code (negative: by that signal)."""
    if code == NEVER_WORKS:
        return Action.GIVE_UP, history
    if policy.restart is Restart.NEVER or (policy.restart is Restart.ON_FAILURE and code == 0):
        return Action.LEAVE, history
    return once_more(policy, history, now)


def once_more(policy: Policy, history: History, now: float) -> tuple[Action, History]:
    """Whether one more restart at `now` is within the intensity, and the history with it."""
    recent = (*(at for at in history if now - at < policy.period), now)
    return (Action.RESTART if len(recent) <= policy.max_restarts else Action.GIVE_UP), recent
