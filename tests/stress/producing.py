"""What a process of a run publishes: alone and in batches, with and without options, by loan, in transactions."""

from __future__ import annotations

import random
import zlib
from typing import Any

import mqshm
from tests.stress import plan
from tests.stress.history import Writer

WAITS = (0.0, 0.002, 0.02, 0.1)


class Producing:
    """A part of Worker."""

    who: str
    broker: mqshm.Broker
    log: Writer
    dice: random.Random
    held: dict[str, list[Any]]
    made: int
    """Messages, in number."""
    operations: int

    def message(self, plain: bool) -> tuple[list[Any], bytes, dict[str, Any]]:
        """What the history says of it, its payload, and its options."""
        self.made += 1
        uid, dice = f"{self.who}-{self.made}", self.dice
        data = plan.payload(uid, plan.size(dice, 0.3))
        options: dict[str, Any] = {}
        if not plain:
            options["priority"] = dice.choice(plan.PRIORITIES)
            if dice.random() < 0.5:
                options["id"] = uid
            if dice.random() < 0.3:
                options["key"] = f"key of {uid}"
            if dice.random() < 0.3:
                options["headers"] = {"who": self.who, "n": self.made, "none": None, "raw": data[:40]}
            if dice.random() < 0.15:
                options["ttl"] = dice.choice((0.005, 0.1, 1.0, 1000.0))
            if dice.random() < 0.1:
                options["delay"] = dice.choice((0.001, 0.05, 0.3))
            if dice.random() < 0.1:
                options["ack_timeout"] = 0.1
        said = [
            uid, "", options.get("priority", 20), len(data), zlib.crc32(data),
            plan.mark(options.get("id"), options.get("key"), options.get("headers", {})),
            options.get("ttl"), options.get("delay"), options.get("ack_timeout"),
        ]  # fmt: skip
        return said, data, options

    def publish(self) -> None:
        way, dice = self.dice.random(), self.dice
        plain = way < 0.35 or 0.55 <= way < 0.75
        count = 1 if way < 0.55 or way >= 0.9 else dice.choice((2, 5, 20, 60))
        made = [self.message(plain) for _ in range(count)]
        topic = dice.choice(plan.TOPICS)
        wait: dict[str, Any] = {} if dice.random() < 0.6 else {"timeout": dice.choice(WAITS)}
        for said, _data, _options in made:
            said[1] = topic
        self.operations += 1
        self.log("publish", self.operations, [said for said, *_ in made])
        try:
            seqs = self._publish(topic, made, way, plain, wait)
        except (mqshm.QueueFull, mqshm.MemoryLimitExceeded) as error:
            self.log("refused", self.operations, type(error).__name__, list(error.sequence_numbers))
        else:
            self.log("published", self.operations, seqs)

    def _publish(self, topic: str, made: list[Any], way: float, plain: bool, wait: dict[str, Any]) -> list[int]:
        if way < 0.55:
            _, data, options = made[0]
            return [self.broker.publish(topic, data, **options, **wait)]
        if way < 0.75:
            return list(self.broker.publish_batch(topic, [data for _, data, _ in made], **wait))
        if way < 0.9:
            messages = [mqshm.Message(data, **options) for _, data, options in made]
            return list(self.broker.publish_batch(topic, messages, **wait))
        _, data, options = made[0]
        if not data:
            return [self.broker.publish(topic, data, **options, **wait)]
        with self.broker.loan(topic, nbytes=len(data), **options, **wait) as loan:
            loan.view[:] = data
        assert loan.seq is not None
        return [loan.seq]

    def transact(self) -> None:
        """Publishes to several topics and acks what it holds, all together; or thinks better of it."""
        dice = self.dice
        made = [self.message(dice.random() < 0.5) for _ in range(dice.randint(1, 4))]
        for said, *_ in made:
            said[1] = dice.choice(plan.TOPICS)
        names = [name for name, held in self.held.items() if held]
        acked = [(name, self.held[name].pop()) for name in dice.sample(names, min(len(names), dice.randint(0, 3)))]
        self.operations += 1
        op = self.operations
        self.log("publish", op, [said for said, *_ in made])
        settles = []
        for name, message in acked:
            self.operations += 1
            settles.append(self.operations)
            self.log("settle", self.operations, "ack", name, [[message.seq, message.attempt]], None)
        self.log("transaction", op, settles)
        error = None
        try:
            transaction = self.broker.transaction(timeout=dice.choice((0.02, 1.0)))
            for said, data, options in made:
                transaction.publish(said[1], data, **options)
            for _name, message in acked:
                transaction.ack(message)
            if dice.random() < 0.1:
                transaction.rollback()
                error = "rolled back"
            else:
                transaction.commit()
        except (mqshm.QueueFull, mqshm.MemoryLimitExceeded, mqshm.LeaseLost, mqshm.TransactionTimeout) as refused:
            error = type(refused).__name__
        if error is None:
            self.log("published", op, list(transaction.sequence_numbers))
        else:
            self.log("refused", op, error, [])
            for name, message in acked:
                self.held[name].append(message)
        for each in settles:
            self.log("settled", each, "done" if error is None else "lost")
