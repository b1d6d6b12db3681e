"""Producers at twice the rate of the consumers, until memory is at its limit and beyond.

    python -m tests.stress.overload --minutes 2

For each overflow policy, over a broker that may take 64 MiB: by its own count and by the kernel's it never takes more;
the policy does what it says (block: producers come down to the consumers' rate and nothing is lost; reject: what did
not fit was refused; drop_oldest, drop_new: what is gone was counted); the counts add up to the last message; and when
the producers end, what waits is received and the next publish goes through at once.
"""

from __future__ import annotations

import argparse
import mmap
import os
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mqshm
from mqshm.config import OVERFLOWS

_LIMIT = 64 << 20
_PRODUCERS = _CONSUMERS = 2
_RATE = 8000.0  # messages a second of all producers, where nothing keeps them; consumers have half of it
_SIZES = (200, 3000, 12_000, 40_000)
_PATIENCE = 60.0


class Board:
    """Numbers that processes share; each writes its own."""

    def __init__(self, cells: int) -> None:
        self._memory = mmap.mmap(-1, 8 * cells)

    def add(self, cell: int, by: int = 1) -> None:
        struct.pack_into("<Q", self._memory, 8 * cell, self.get(cell) + by)

    def get(self, cell: int) -> int:
        value: int = struct.unpack_from("<Q", self._memory, 8 * cell)[0]
        return value


_STOP, _SENT, _REFUSED, _RECEIVED = 0, 1, 1 + _PRODUCERS, 1 + 2 * _PRODUCERS


def _paced(start: float, done: int, rate: float) -> None:
    ahead = start + done / rate - time.monotonic()
    if ahead > 0.001:
        time.sleep(ahead)


def produce(name: str, board: Board, who: int) -> None:
    with mqshm.connect(name, supervisor=False) as broker:
        start, tried = time.monotonic(), 0
        while not board.get(_STOP):
            size = _SIZES[(tried * 7 + who) % len(_SIZES)]
            tried += 1
            try:
                broker.publish("load", bytes(size), timeout=1.0)
                board.add(_SENT + who)
            except (mqshm.MemoryLimitExceeded, mqshm.QueueFull):
                board.add(_REFUSED + who)
            _paced(start, tried, _RATE / _PRODUCERS)


def consume(name: str, board: Board, who: int) -> None:
    with mqshm.connect(name, supervisor=False) as broker:
        group = broker.subscribe("load", group="g")
        start, done = time.monotonic(), 0
        while True:
            message = group.receive(timeout=0.1)
            if message is None:
                if board.get(_STOP):
                    return
                continue
            message.ack()
            done += 1
            board.add(_RECEIVED + who)
            if not board.get(_STOP):
                _paced(start, done, _RATE / 2 / _CONSUMERS)


@dataclass
class Outcome:
    policy: str
    sent: int
    refused: int
    received: int
    dropped: int
    most_own: int
    most_kernel: int
    at_limit: bool
    recovered_in: float

    def wrong(self) -> list[str]:
        found = []
        if self.most_own > _LIMIT or self.most_kernel > _LIMIT:
            found.append(f"memory went to {self.most_own} by its own count, {self.most_kernel} by the kernel's")
        if not self.at_limit:
            found.append("memory was never near its limit: the load is too small to show anything")
        if self.sent != self.received + self.dropped:
            found.append(f"{self.sent} were published, {self.received} received and {self.dropped} dropped")
        if self.policy in ("block", "reject") and self.dropped:
            found.append(f"{self.dropped} were dropped")
        if self.policy == "reject" and not self.refused:
            found.append("nothing was refused")
        if self.policy.startswith("drop") and (self.refused or not self.dropped):
            found.append(f"{self.refused} were refused, {self.dropped} dropped")
        if self.recovered_in > 1.0:
            found.append(f"the first publish afterwards took {self.recovered_in:.1f} s")
        return found


def _fork(work: object, *arguments: object) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)  # type: ignore[operator]
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def run(policy: str, seconds: float) -> Outcome:
    name = f"stress-overload-{os.getpid()}"
    board = Board(1 + 2 * _PRODUCERS + _CONSUMERS)
    config = mqshm.Config(max_memory_usage=_LIMIT, overflow=policy)
    own = kernel = 0
    with mqshm.connect(name, config=config, supervisor=False) as broker:
        try:
            broker.create_group("g", "load", buffer_size=1_000_000, overflow=policy)
            pids = [_fork(produce, name, board, who) for who in range(_PRODUCERS)]
            pids += [_fork(consume, name, board, who) for who in range(_CONSUMERS)]
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                own = max(own, broker.memory_usage)
                kernel = max(kernel, Path(f"/dev/shm/mqshm.{name}").stat().st_blocks * 512)
                time.sleep(0.01)
            at_limit = own > _LIMIT * 9 // 10
            board.add(_STOP)
            for pid in pids:
                if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                    raise RuntimeError("a process of the run failed")
            before = time.monotonic()
            broker.publish("load", bytes(_SIZES[-1]), timeout=_PATIENCE)
            recovered = time.monotonic() - before
            broker.purge("g")
            dropped = broker.stats().groups["g"].dropped - 1  # that one
        finally:
            mqshm.destroy(name)
    count = [board.get(cell) for cell in range(1 + 2 * _PRODUCERS + _CONSUMERS)]
    return Outcome(
        policy, sum(count[_SENT : _SENT + _PRODUCERS]), sum(count[_REFUSED : _REFUSED + _PRODUCERS]),
        sum(count[_RECEIVED : _RECEIVED + _CONSUMERS]), dropped, own, kernel, at_limit, recovered,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.overload", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="for each policy (2)")
    failed = False
    for policy in OVERFLOWS:
        outcome = run(policy, parser.parse_args().minutes * 60)
        print(
            f"{policy:12} published {outcome.sent}, received {outcome.received}, dropped {outcome.dropped}, refused "
            f"{outcome.refused}; at most {outcome.most_own / 2**20:.1f} MiB, by the kernel's count "
            f"{outcome.most_kernel / 2**20:.1f}; afterwards the first publish took {outcome.recovered_in * 1e3:.1f} ms",
            flush=True,
        )
        for each in outcome.wrong():
            failed = True
            print(f"  WRONG: {each}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
