"""One process of a run: uses the broker in every way that the API offers and writes down what it did and was told."""

from __future__ import annotations

import atexit
import mmap
import os
import random
import signal
import time
import traceback
import zlib
from pathlib import Path
from typing import Any

import mqshm
from mqshm import AckPolicy
from tests.stress import plan
from tests.stress.history import Writer
from tests.stress.producing import WAITS, Producing

RUN, QUIET, LEAVE = range(3)  # what the conductor's byte says
QUIET_SUFFIX = ".quiet"
DRAIN_SECONDS = 20.0


class Worker(Producing):
    """`phase` is memory shared with the conductor. A sink only consumes: publishers that wait for ever rely on it."""

    def __init__(self, name: str, directory: Path, who: str, seed: int, phase: mmap.mmap, sink: bool) -> None:
        self.name, self.directory, self.seed, self.phase, self.sink = name, directory, seed, phase, sink
        self.forks = 0
        self.fork_wanted = self.leave_wanted = False
        self.begin(who, None)
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "fork_wanted", True))
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "leave_wanted", True))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
        self.broker = mqshm.connect(name, create=False, supervisor=False)
        self.groups: dict[str, Any] = {}

    def begin(self, who: str, parent: str | None) -> None:
        """A history of its own, and nothing in hand."""
        self.who = who
        self.log = Writer(self.directory, who)
        self.log("start", parent, os.getpid())
        self.dice = random.Random(f"{self.seed}/{who}")
        self.made = self.operations = 0
        self.private: dict[str, Any] = {}
        self.held: dict[str, list[Any]] = {}
        self.views: list[Any] = []

    # -- the loop

    def run(self) -> None:
        while self.phase[0] == RUN and not self.leave_wanted:
            if self.fork_wanted:
                self.fork()
            self.step()
        if self.leave_wanted and self.phase[0] == RUN:  # leaves in the middle, with whatever it holds
            self.leave()
            return
        for sub in list(self.held):
            self.settle(sub, everything=True)
        (self.directory / (self.who + QUIET_SUFFIX)).touch()
        while self.phase[0] != LEAVE:
            if self.sink:
                self.serve()
            else:
                time.sleep(0.005)
        for sub in list(self.held):
            self.settle(sub, everything=True)
        self.drain_private()
        self.leave()

    def step(self) -> None:
        dice = self.dice.random()
        if self.sink:
            self.serve()
        elif dice < 0.4:
            self.publish()
        elif dice < 0.45:
            self.transact()
        elif dice < 0.97:
            self.consume()
        elif dice < 0.99:
            self.change_private()
        else:
            self.broker.stats()

    def leave(self) -> None:
        self.look_at_views()
        self.log("leave")
        if self.dice.random() < 0.5:
            self.broker.close()
        else:
            atexit._run_exitfuncs()  # as the interpreter's end does
        self.log("end")

    # -- consuming

    def consume(self) -> None:
        dice = self.dice
        if self.private and dice.random() < 0.4:
            name = dice.choice(list(self.private))
            sub, ack = self.private[name]
            most = 20
        else:
            name = dice.choice(list(plan.GROUPS))
            group = plan.GROUPS[name]
            sub, ack, most = self.group(name), group.ack, group.held_at_most
        if ack == AckPolicy.NONE:
            most = 100
        room = most - len(self.held.get(name, ()))
        if room <= 0 or dice.random() < 0.1:
            self.settle(name)
            return
        self.take(name, sub, ack, room)
        if ack != AckPolicy.NONE and dice.random() < 0.8:
            self.settle(name)

    def group(self, name: str) -> Any:
        if name not in self.groups:
            group = plan.GROUPS[name]
            self.groups[name] = self.broker.subscribe_batch(group.patterns, group=name, **group.options())
        return self.groups[name]

    def serve(self) -> None:
        """A sink's turn: something from every group, and sleep where nothing is."""
        taken = 0
        names = list(plan.GROUPS)
        self.dice.shuffle(names)
        for name in names:
            ack = plan.GROUPS[name].ack
            taken += self.take(name, self.group(name), ack, 50, patient=False)
            if self.held.get(name):
                self.settle(name)
        if not taken:
            mqshm.wait(*self.groups.values(), timeout=0.05)

    def take(self, name: str, sub: Any, ack: AckPolicy, room: int, patient: bool = True) -> int:
        """Messages received."""
        dice = self.dice
        way = dice.random()
        wait = dice.choice(WAITS) if patient else 0
        most = 1 if way < 0.6 else min(room, dice.choice((2, 10, 100)))
        self.log("receive", name, most)
        if way < 0.4:
            got = [sub.receive_nowait()]
        elif way < 0.6:
            got = [sub.receive(timeout=wait)]
        else:
            got = sub.receive_batch(most, timeout=wait)
        messages = [message for message in got if message is not None]
        self.log("received", name, [self.seen(message, ack) for message in messages])
        if ack != AckPolicy.NONE:
            self.held.setdefault(name, []).extend(messages)
        return len(messages)

    def seen(self, message: Any, ack: AckPolicy) -> list[Any]:
        data: Any = None
        try:
            way = self.dice.random() if ack != AckPolicy.NONE else 1.0
            data = message.view if way < 0.2 else message.array() if way < 0.3 else message.data
        except mqshm.LeaseLost:
            if ack != AckPolicy.TIMEOUT:
                raise
        return plan.seen(message, data)

    def settle(self, name: str, everything: bool = False) -> None:
        held, dice = self.held.get(name, []), self.dice
        while held and (everything or dice.random() < 0.9):
            if len(held) > 1 and dice.random() < 0.3:
                batch = [held.pop() for _ in range(dice.randint(2, len(held)))]
                sub = self.private[name][0] if name in self.private else self.groups[name]
                self.ask("ack", name, batch, None, lambda batch=batch, sub=sub: sub.ack_batch(batch))
                continue
            message = held.pop(dice.randrange(len(held)))
            way = 0.0 if everything else dice.random()
            if way < 0.7:
                if way < 0.1 and message.attempt == 1 and len(self.views) < 5:
                    self.keep_view(name, message)
                by_id = 0.1 <= way < 0.2 and message.id is not None and not self.holds(message.id)
                ack = (lambda m=message: self.broker.ack(m.topic, m.id)) if by_id else message.ack
                self.ask("ack", name, [message], None, ack)
            elif way < 0.8:
                delay = dice.choice((None, 0.0, 0.02, 0.1))
                self.ask("nack", name, [message], delay, lambda m=message, d=delay: m.nack(delay=d))
            elif way < 0.85:
                self.ask("reject", name, [message], None, lambda m=message: m.reject("no good"))
            elif way < 0.88:
                self.ask("reject", name, [message], None, lambda m=message: m.nack(requeue=False))
            elif way < 0.95:
                seconds = dice.choice((0.05, 0.3))
                self.ask("extend", name, [message], seconds, lambda m=message, s=seconds: m.extend(s))
                held.append(message)
            else:
                said = [[message.seq, message.attempt]]
                self.operations += 1
                self.log("settle", self.operations, "drop", name, said, None)
                del message
                self.log("settled", self.operations, "done")
        if len(self.views) > 3:
            self.look_at_views()

    def holds(self, id: str) -> bool:
        """From another subscription: whoever acks by id acks one of them."""
        return any(each.id == id for held in self.held.values() for each in held)

    def ask(self, verb: str, name: str, messages: list[Any], argument: float | None, call: Any) -> None:
        self.operations += 1
        self.log("settle", self.operations, verb, name, [[m.seq, m.attempt] for m in messages], argument)
        try:
            outcome = call()
        except mqshm.LeaseLost:
            outcome = "lost"
        self.log("settled", self.operations, "done" if outcome is None else outcome)

    def keep_view(self, name: str, message: Any) -> None:
        """It must stay as it is while it lives, whatever becomes of its message. Leases that end by a timer end it."""
        if name in self.private or plan.GROUPS[name].ack == AckPolicy.REQUIRED:
            self.views.append((name, message.seq, message.attempt, message.view))

    def look_at_views(self) -> None:
        while self.views:
            name, seq, attempt, view = self.views.pop()
            self.log("look", name, seq, attempt, zlib.crc32(view))

    # -- subscriptions of its own

    def change_private(self) -> None:
        dice = self.dice
        if len(self.private) > 2 or (self.private and dice.random() < 0.3):
            name = dice.choice(list(self.private))
            self.held.pop(name, None)  # let go; whatever waits goes with it
            self.close(name)
            return
        self.operations += 1
        name, patterns = f"{self.who}/{self.operations}", dice.choice(plan.PRIVATE_PATTERNS)
        ack = dice.choice((AckPolicy.NONE, AckPolicy.REQUIRED))
        options: dict[str, Any] = {"ack": ack, "buffer_size": dice.choice((16, 256, 2048)), "overflow": "reject"}
        said = {**options, "patterns": patterns, "max_attempts": 0, "ack_timeout": None}
        self.log("subscribe", name, said)
        sub = self.broker.subscribe_batch(patterns, max_attempts=0, backoff=(0.0, 0.01), **options)
        self.log("subscribed", name)
        self.private[name] = sub, ack

    def close(self, name: str) -> None:
        sub, _ack = self.private.pop(name)
        self.log("close", name)
        sub.close()
        self.log("closed", name)

    def drain_private(self) -> None:
        ends = time.monotonic() + DRAIN_SECONDS
        while any(self._waits(each) for each in self.broker.stats().private if each.pid == os.getpid()):
            if time.monotonic() > ends:
                raise TimeoutError(f"a private subscription does not drain: {self.broker.stats().private}")
            for name, (sub, ack) in self.private.items():
                self.take(name, sub, ack, 100)
                self.settle(name, everything=True)
        for name in list(self.private):
            self.log("drained", name)
            self.close(name)

    @staticmethod
    def _waits(stats: Any) -> int:
        return int(stats.waiting + stats.in_flight + stats.delayed)

    # -- fork

    def fork(self) -> None:
        """The child goes on with the parent's Broker and groups, and nothing else of it."""
        self.fork_wanted = False
        if "f" in self.who:
            return
        self.forks += 1
        child = f"{self.who}f{self.forks}"
        self.log("fork", child)
        if os.fork() == 0:
            parent = self.who
            self.log.close()
            held, private = self.held, self.private
            self.views = []
            self.begin(child, parent)
            del held, private  # the parent's leases: to let go of them here must do nothing


def main(name: str, directory: Path, who: str, seed: int, phase: mmap.mmap, sink: bool) -> None:
    """Runs in a process of its own and does not return."""
    code = 1
    worker = None
    try:
        worker = Worker(name, directory, who, seed, phase, sink)
        worker.run()
        code = 0
    except BaseException:
        if worker is not None:
            worker.log("error", traceback.format_exc())
        else:
            traceback.print_exc()
    finally:
        os._exit(code)
