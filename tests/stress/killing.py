"""Numbered processes of which one is killed every so often, at whatever instruction it is; another takes its number."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from types import TracebackType

PATIENCE = 60.0
"""Seconds without any progress after which a run is stuck."""


def parser(module: str, doc: str, what: str) -> argparse.ArgumentParser:
    """Of a run's command: what all runs with kills ask."""
    made = argparse.ArgumentParser(prog=f"python -m tests.stress.{module}", description=doc.split("\n")[0])
    made.add_argument("--count", type=int, default=100_000, help=f"{what} (100000)")
    made.add_argument("--kill-every", type=float, default=0.1, metavar="SECONDS", help="on average (0.1)")
    made.add_argument("--seed", type=int, default=1)
    return made


class Band:
    """`work(number, seed)` runs in each process; `with` begins them, and kills whoever is left."""

    def __init__(self, size: int, work: Callable[[int, int], None], kill_every: float, seed: int) -> None:
        self.size, self.work, self.kill_every = size, work, kill_every
        self.chance = random.Random(seed)
        self.members: dict[int, int] = {}
        """Numbers by pid."""
        self.kills = 0
        self.next_kill = 0.0

    def __enter__(self) -> Band:
        self.next_kill = time.monotonic() + self.kill_every
        for number in range(self.size):
            self._start(number)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pid in self.members:
            _kill(pid)
        self.members.clear()

    def _start(self, number: int) -> None:
        seed = self.chance.getrandbits(32)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self.work(number, seed)
                code = 0
            except BaseException as error:
                print(f"process {number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        self.members[pid] = number

    def disturb(self) -> None:
        """Kills one where its time has come."""
        now = time.monotonic()
        if now < self.next_kill or not self.members:
            return
        pid = self.chance.choice(list(self.members))
        _kill(pid)
        self.kills += 1
        self._start(self.members.pop(pid))
        self.next_kill = now + self.kill_every * self.chance.uniform(0.5, 1.5)

    def ended(self) -> list[int]:
        """Exit codes of those that have ended by themselves since; nobody takes their place."""
        codes = []
        for pid in list(self.members):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.members[pid]
                codes.append(os.waitstatus_to_exitcode(status))
        return codes


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
