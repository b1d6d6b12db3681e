"""Transactions by processes that are killed at random: for each, all of it or nothing.

    python -m tests.stress.transactions --count 100000

Jobs wait in a group. Four processes take one each, and in one transaction publish a result to each of three topics and
ack the job; some transactions are rolled back on purpose first. One of the processes is killed every so often, at
whatever instruction it is, and another comes in its place. In the end every job must have exactly one result on each
topic: a transaction that was done twice would have left two, one that was done by half none on some, and one whose ack
was lost without its results none at all.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter

import mqshm
from tests.stress.killing import PATIENCE, Band, parser

TOPICS = ("done.count", "done.audit", "done.bill")
_WORKERS = 4
_LARGE = 2000  # bytes, now and then


def work(name: str, seed: int) -> None:
    """Until it is killed, or nothing comes any more."""
    chance = random.Random(seed)
    with mqshm.connect(name, supervisor=False) as broker:
        jobs = broker.subscribe("jobs", group="workers")
        while (message := jobs.receive(timeout=5.0)) is not None:
            if chance.random() < 0.05:
                undone = broker.transaction()
                for topic in TOPICS:
                    undone.publish(topic, b"never")
                undone.ack(message)
                undone.rollback()
            with broker.transaction() as tx:
                for topic in TOPICS:
                    tx.publish(topic, message.data + bytes(_LARGE if chance.random() < 0.1 else 0))
                tx.ack(message)


class Run:
    def __init__(self, name: str, count: int, kill_every: float, seed: int) -> None:
        self.name, self.count = name, count
        self.results = {topic: Counter[int]() for topic in TOPICS}
        self.band = Band(_WORKERS, lambda _, seed: work(name, seed), kill_every, seed)

    def go(self) -> list[str]:
        """What is wrong."""
        with mqshm.connect(self.name, supervisor=False) as broker:
            broker.create_group("workers", "jobs", buffer_size=4096, max_attempts=0)
            groups = [broker.subscribe(topic, group=topic, buffer_size=100_000, max_attempts=0) for topic in TOPICS]
            with self.band:
                self._conduct(broker, groups)
            report = broker.fsck(repair=True)  # what the last of the dead had begun is finished, or undone
            for topic, group in zip(TOPICS, groups, strict=True):  # one too many would come now
                self._take(topic, group)
            wrong = self._judge()
            again = broker.fsck()
            if not again.clean or again.blocks_used:
                wrong.append(f"fsck: {again.first or again} (repaired {report.repaired})")
        return wrong

    def _conduct(self, broker: mqshm.Broker, groups: list[mqshm.Subscription]) -> None:
        published, progress = 0, time.monotonic()
        while sum(map(len, self.results.values())) < self.count * len(TOPICS):
            got = 0
            for _ in range(256):
                if published == self.count:
                    break
                try:
                    broker.publish("jobs", b"%08d" % published, timeout=0)
                except mqshm.QueueFull:
                    break
                published += 1
            for topic, group in zip(TOPICS, groups, strict=True):
                got += self._take(topic, group)
            now = time.monotonic()
            if got:
                progress = now
            elif now - progress > PATIENCE:
                return
            self.band.disturb()

    def _take(self, topic: str, group: mqshm.Subscription) -> int:
        messages = group.receive_batch(1000, timeout=0.001)
        for message in messages:
            self.results[topic][int(message.data[:8])] += 1
        return group.ack_batch(messages)

    def _judge(self) -> list[str]:
        wrong = []
        for topic, results in self.results.items():
            twice = [job for job, times in results.items() if times > 1]
            lost = [job for job in range(self.count) if job not in results]
            if twice:
                wrong.append(f"{topic}: {len(twice)} jobs have more than one result, job {twice[0]} for one")
            if lost:
                wrong.append(f"{topic}: {len(lost)} jobs have no result, job {lost[0]} for one")
        return wrong


def main() -> int:
    chosen = parser("transactions", __doc__ or "", "transactions").parse_args()
    name = f"stress-transactions-{os.getpid()}"
    run = Run(name, chosen.count, chosen.kill_every, chosen.seed)
    start = time.monotonic()
    try:
        wrong = run.go()
    finally:
        mqshm.destroy(name)
    took = time.monotonic() - start
    print(f"{chosen.count} transactions over {len(TOPICS)} topics in {took:.0f} s, {run.band.kills} killed: ", end="")
    print("\n".join(wrong) if wrong else "each was done once, as a whole")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
