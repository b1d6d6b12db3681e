"""An id is published once, by processes that are killed at random.

    python -m tests.stress.ids --count 100000

Four processes publish the same numbers as ids, to a topic chosen by number: alone, in batches, as loans, and in
transactions of several. Each number is the duty of one of them; the others turn up as rivals while it is at it.
Every so often one is killed, at whatever instruction it is; another comes in its place, and
does all of its duty again from shortly before where that one was. In the end each group must have received each of its
numbers once: none of them was published by nobody, however its publisher died, and none by two.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import sys
import time
from collections import Counter

import mqshm
from tests.stress.killing import PATIENCE, Band, parser

TOPICS = ("once.alone", "once.twice", "once.large")
GROUPS = {
    "alone": ("once.alone",),
    "twice": ("once.twice",),
    "again": ("once.twice", "once.large"),
    "large": ("once.#",),
}
_WORKERS = 4
_STEP = 16  # numbers that are begun together
_AGAIN = 4  # steps that a successor does once more


def topic_of(number: int) -> str:
    return TOPICS[number % len(TOPICS)]


def data_of(number: int) -> bytes:
    return b"%08d" % number + bytes(3000 if topic_of(number) == "once.large" and number % 5 == 0 else number % 90)


class Board:
    """Memory that the processes share: when each step was first begun, and at which step each process is."""

    def __init__(self, count: int) -> None:
        self.steps = -(-count // _STEP)
        self.memory = mmap.mmap(-1, 8 * (self.steps + _WORKERS))

    def begun(self, step: int) -> int:
        """The monotonic clock's ns; 0: by nobody yet."""
        return int(struct.unpack_from("q", self.memory, 8 * step)[0])

    def begin(self, step: int, now: int) -> None:
        struct.pack_into("q", self.memory, 8 * step, now)

    def place(self, worker: int) -> int:
        return self.begun(self.steps + worker)

    def move(self, worker: int, step: int) -> None:
        self.begin(self.steps + worker, step)


class Worker:
    def __init__(self, name: str, board: Board, number: int, count: int, window: float, seed: int) -> None:
        self.board, self.number, self.count, self.window = board, number, count, int(window * 1e9)
        self.chance = random.Random(seed)
        self.broker = mqshm.connect(name, supervisor=False)

    def run(self) -> None:
        began = self.board.place(self.number) // _WORKERS * _WORKERS + self.number
        for step in range(max(self.number, began - _AGAIN * _WORKERS), self.board.steps, _WORKERS):
            self.duty(step)
            self.rival()
        self.broker.close()

    def duty(self, step: int) -> None:
        now, first = time.monotonic_ns(), self.board.begun(step)
        if first and now - first > self.window * 3 // 4:
            raise TimeoutError(f"step {step} is done again {(now - first) / 1e9:.1f} s later: too late to be sure")
        if not first:
            self.board.begin(step, now)
        self.board.move(self.number, step)
        self.publish(list(range(step * _STEP, min(self.count, (step + 1) * _STEP))))

    def rival(self) -> None:
        """Another's numbers, while that one is at them: what is there is refused quickly, so this catches up."""
        step = self.board.place(self.chance.randrange(_WORKERS))
        first = self.board.begun(step)
        if first and time.monotonic_ns() - first < self.window // 4:
            self.publish(list(range(step * _STEP, min(self.count, (step + 1) * _STEP))))

    def publish(self, numbers: list[int]) -> None:
        way = self.chance.random()
        if way < 0.5:
            for number in numbers:
                self.one(number)
        elif way < 0.75:
            for topic in TOPICS:
                self.batch(topic, [number for number in numbers if topic_of(number) == topic])
        else:
            self.together(numbers)

    def one(self, number: int) -> None:
        data = data_of(number)
        try:
            if self.chance.random() < 0.8:
                self.broker.publish(topic_of(number), data, id=str(number))
            else:
                with self.broker.loan(topic_of(number), nbytes=len(data), id=str(number)) as loan:
                    loan.view[:] = data
        except mqshm.DuplicateMessage:
            pass

    def batch(self, topic: str, numbers: list[int]) -> None:
        """What comes before a duplicate is in: go on behind it."""
        while numbers:
            try:
                self.broker.publish_batch(topic, [mqshm.Message(data_of(each), id=str(each)) for each in numbers])
                return
            except mqshm.DuplicateMessage as error:
                del numbers[: len(error.sequence_numbers) + 1]

    def together(self, numbers: list[int]) -> None:
        """All or none: where one is a duplicate, one by one."""
        try:
            with self.broker.transaction() as tx:
                for number in numbers:
                    tx.publish(topic_of(number), data_of(number), id=str(number))
        except mqshm.DuplicateMessage:
            for number in numbers:
                self.one(number)


class Run:
    def __init__(self, name: str, count: int, kill_every: float, window: float, seed: int) -> None:
        self.name, self.count, self.window = name, count, window
        self.board = Board(count)
        self.got = {group: Counter[int]() for group in GROUPS}
        self.band = Band(_WORKERS, self._work, kill_every, seed)

    def _work(self, number: int, seed: int) -> None:
        Worker(self.name, self.board, number, self.count, self.window, seed).run()

    def go(self) -> list[str]:
        """What is wrong."""
        config = mqshm.Config(dedup_window=self.window)
        with mqshm.connect(self.name, supervisor=False, config=config) as broker:
            groups = {
                name: broker.subscribe_batch(patterns, group=name, buffer_size=4096, max_attempts=0)
                for name, patterns in GROUPS.items()
            }
            with self.band:
                wrong = self._conduct(groups)
            report = broker.fsck(repair=True)  # what the last of the dead had begun is finished, or undone
            self._take(groups)
            wrong += self._judge()
            again = broker.fsck()
            if not again.clean or again.blocks_used:
                wrong.append(f"fsck: {again.first or again} (repaired {report.repaired})")
        return wrong

    def _conduct(self, groups: dict[str, mqshm.Subscription]) -> list[str]:
        """Until all processes have come to their end."""
        progress = time.monotonic()
        while self.band.members:
            now = time.monotonic()
            if self._take(groups):
                progress = now
            elif now - progress > PATIENCE:
                return [f"nothing comes any more; {len(self.band.members)} processes have not come to their end"]
            if any(self.band.ended()):
                return ["a process ended by itself, and not well"]
            self.band.disturb()
        return []

    def _take(self, groups: dict[str, mqshm.Subscription]) -> int:
        taken = 0
        for name, group in groups.items():
            messages = group.receive_batch(1000, timeout=0.001)
            for message in messages:
                self.got[name][int(message.data[:8])] += 1
            taken += group.ack_batch(messages)
        return taken

    def _judge(self) -> list[str]:
        wrong = []
        for name, patterns in GROUPS.items():
            got = self.got[name]
            due = {n for n in range(self.count) if topic_of(n) in patterns or "once.#" in patterns}
            twice = [number for number, times in got.items() if times > 1]
            lost = sorted(due - got.keys())
            if twice:
                wrong.append(f"{name}: {len(twice)} ids were published more than once, {twice[0]} for one")
            if lost:
                wrong.append(f"{name}: {len(lost)} ids were not published, {lost[0]} for one")
            if got.keys() - due:
                wrong.append(f"{name}: {min(got.keys() - due)} was never published there")
        return wrong


def main() -> int:
    asked = parser("ids", __doc__ or "", "ids")
    asked.add_argument("--window", type=float, default=20.0, metavar="SECONDS", help="in which an id is known (20)")
    chosen = asked.parse_args()
    name = f"stress-ids-{os.getpid()}"
    run = Run(name, chosen.count, chosen.kill_every, chosen.window, chosen.seed)
    start = time.monotonic()
    try:
        wrong = run.go()
    finally:
        mqshm.destroy(name)
    took = time.monotonic() - start
    print(f"{chosen.count} ids by {_WORKERS} rivals in {took:.0f} s, {run.band.kills} killed: ", end="")
    print("\n".join(wrong) if wrong else "each was published once")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
