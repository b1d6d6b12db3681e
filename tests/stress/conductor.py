"""Starts the processes of a run, kills, stops and forks them at random, and brings what is left to rest.

A run is a row of shifts over one broker. In a shift processes come and go for some seconds; then nobody is killed any
more, all finish and leave, what waits is drained, and the shift's histories are checked. Every third shift is calm: in
it nobody is killed, and everything must have happened exactly once.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 -- once, and not in each process that is forked

import mqshm
from mqshm import _native, deadletters
from tests.stress import checker, history, plan, worker
from tests.stress.history import SUFFIX, Writer

PROCESSES, SINKS, MOST = 8, 2, 12
PR_SET_CHILD_SUBREAPER = 36
DEADLINE = 30.0
GROWTH = 12 << 20
"""Bytes that a broker at rest may take more than after its first shift: for the counters of more processes at once, and
for the slots and rings of the dead letters, of which there are 65,536."""
NAP = 0.15
"""Seconds; whoever waits longer than the broker's naps looks for deaths and repairs what they left."""
COUNTERS = ("published", "delivered", "settled", "redelivered", "nacked", "rejected", "expired", "dropped")


def until(condition: Callable[[], Any], what: str) -> None:
    ends = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"{what} did not come within {DEADLINE:.0f} s")
        time.sleep(0.005)


@dataclass
class Shift:
    """One shift's processes. Those that a process forked become the conductor's children when their parent dies."""

    name: str
    directory: Path
    seed: int
    calm: bool
    first: int
    """Number of the first process: none is given twice in a run."""
    phase: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 4096))
    fds: dict[str, int | None] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.seed}/conductor/{self.first}")
        self.log = Writer(self.directory, "conductor")
        self.next = self.first

    def run(self, seconds: float) -> None:
        try:
            for n in range(PROCESSES):
                self.start(n < SINKS)
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                time.sleep(self.dice.expovariate(1 / 0.04))
                self.disturb()
                self.replace()
            self.rest()
        finally:
            while not _buried():  # those included that are being forked now
                for fd in self.look().values():
                    self.send(fd, signal.SIGKILL)
                time.sleep(0.005)
            for each in self.fds.values():
                if each is not None:
                    os.close(each)

    def start(self, sink: bool) -> None:
        who = f"{self.next}s" if sink else str(self.next)
        self.next += 1
        pid = os.fork()
        if pid == 0:
            worker.main(self.name, self.directory, who, self.seed, self.phase, sink)
        self.know(who, pid)

    def replace(self) -> None:
        alive = self.look()
        sinks = sum(who.endswith("s") for who in alive)
        for n in range(PROCESSES - len(alive)):
            self.start(n < SINKS - sinks)
        if len(alive) >= PROCESSES and sinks < SINKS:
            self.start(True)

    def look(self) -> dict[str, int]:
        """Who lives, those that were forked included."""
        _buried()
        for path in self.directory.glob("*f*" + SUFFIX):
            who = path.name[: -len(SUFFIX)]
            if who not in self.fds and (first := path.read_bytes().partition(b"\n")[0]):
                self.know(who, json.loads(first)[3])
        return {who: fd for who, fd in self.fds.items() if fd is not None and not _ended(fd)}

    def know(self, who: str, pid: int) -> None:
        """By a descriptor: its number may be another's once it has ended."""
        try:
            self.fds[who] = os.pidfd_open(pid)
        except ProcessLookupError:
            self.fds[who] = None

    def send(self, fd: int, number: int) -> None:
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass

    def kill(self, who: str, fd: int) -> None:
        if who in self.killed:
            return  # dying takes its time
        self.log("kill", who)
        self.killed.add(who)
        self.send(fd, signal.SIGKILL)

    def disturb(self) -> None:
        alive = self.look()
        if not alive:
            return
        who = self.dice.choice(list(alive))
        fd, way = alive[who], self.dice.random()
        if way < 0.35:
            if not self.calm:
                self.kill(who, fd)
        elif way < 0.75:
            self.send(fd, signal.SIGSTOP)
            time.sleep(self.dice.choice((0.001, 0.01, 0.05, 0.3)))
            if not self.calm and self.dice.random() < 0.2:
                self.kill(who, fd)  # a process may die while it is stopped
            self.send(fd, signal.SIGCONT)
        elif way < 0.92:
            if len(alive) < MOST:
                self.send(fd, signal.SIGUSR1)
        else:
            self.send(fd, signal.SIGTERM)

    def rest(self) -> None:
        """Everybody finishes, waits until all others have, empties what is its own, and leaves."""
        self.phase[0] = worker.QUIET
        quiet = worker.QUIET_SUFFIX
        until(lambda: all((self.directory / (who + quiet)).exists() for who in self.look()), "quiet")
        self.phase[0] = worker.LEAVE
        until(lambda: not self.look() and _buried(), "the end of all processes")  # those not known yet included


def _ended(fd: int) -> bool:
    ends = select.poll()
    ends.register(fd, select.POLLIN)
    return bool(ends.poll(0))


def _buried() -> bool:
    """Whether there is no child any more; those that have ended are waited for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


class Run:
    """All shifts over one broker, with the demands that concern the broker as a whole."""

    def __init__(self, seed: int, directory: Path, say: Callable[[str], None]) -> None:
        self.seed, self.directory, self.say = seed, directory, say
        self.name = f"stress-{os.getpid()}-{seed}"
        self.shifts = self.processes = self.killed = self.messages = self.deliveries = 0
        self.counters: dict[str, dict[str, int]] = {}
        self.problems: list[str] = []
        self.memory: list[int] = []
        """Bytes at rest, after each shift."""

    def start(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # in a process that has not said yet what it does on them
        config = mqshm.Config(dead_letter_topic=plan.DEAD, dedup_window=plan.DEDUP_WINDOW)
        mqshm.connect(self.name, supervisor=False, config=config).close()
        with self.connect() as broker:
            for name, group in plan.GROUPS.items():
                broker.create_group(name, group.patterns, **group.options())
            self.counters = _counters(broker)
            self.units = broker.fsck().units_used

    def connect(self) -> mqshm.Broker:
        return mqshm.connect(self.name, create=False, supervisor=False)

    def shift(self, seconds: float, calm: bool) -> bool:
        """Whether all went as it must."""
        place = self.directory / f"shift-{self.shifts}"
        place.mkdir()
        shift = Shift(self.name, place, self.seed, calm, self.processes)
        began = time.monotonic()
        for name, group in plan.GROUPS.items():
            said = {**group.options(), "patterns": group.patterns, "ack_timeout": group.ack_timeout}
            shift.log("group", name, said)
        problems: list[str] = []
        try:
            shift.run(seconds)
            problems += self.at_rest(shift)
        except TimeoutError as error:
            problems.append(f"hang: {error}\n{self.stuck(place)}")
        rested = time.monotonic()
        events = history.read(place)
        if any(each[0] == "leave" for each in events.get("drain", ())):  # else what waits is not known
            problems += [str(each) for each in checker.check(events)]
            self.messages += sum(len(each[3]) for log in events.values() for each in log if each[0] == "publish")
            self.deliveries += sum(len(each[3]) for log in events.values() for each in log if each[0] == "received")
        self.shifts += 1
        self.killed += len(shift.killed)
        count, self.processes = len(events) - 2, shift.next
        self.say(
            f"shift {self.shifts}{' calm' if calm else ''}: {count} processes, {len(shift.killed)} killed, "
            f"{rested - began:.1f} s and {time.monotonic() - rested:.1f} s to check, "
            f"{self.memory[-1] >> 10 if self.memory else 0} KiB at rest, {len(problems)} problems"
        )
        self.problems += [f"seed {self.seed}, shift {self.shifts}: {each}" for each in problems]
        if not problems:
            shutil.rmtree(place)
        return not problems

    def stuck(self, place: Path) -> str:
        return "\n".join(f"{who}: last {log[-1] if log else None}" for who, log in history.read(place).items())

    def at_rest(self, shift: Shift) -> list[str]:
        """Drains what waits, and looks whether the broker is as empty as it began."""
        log, problems = Writer(shift.directory, "drain"), []
        log("start", None, os.getpid())
        with self.connect() as broker:
            subs = {
                name: broker.subscribe_batch(group.patterns, group=name, **group.options())
                for name, group in plan.GROUPS.items()
            }
            until(lambda: _drained(broker, subs, log), "the end of all that waits in groups")
            log("leave")

            def alone() -> bool:
                subs["lone"].receive(timeout=NAP)
                return len(broker.stats().peers) == 1 and not broker.stats().private

            until(alone, "the end of all peers and private subscriptions")
            _bury(broker, log)
            counters = _counters(broker)
            for name, now in counters.items():
                log("counters", name, {each: now[each] - self.counters[name][each] for each in now})
            self.counters = counters
            problems += _empty(broker, self.units)
            self.memory.append(broker.memory_usage)
            if self.memory[-1] > self.memory[0] + GROWTH:
                problems.append(f"memory at rest grows: {self.memory} bytes after each shift")
        log("end")
        return problems

    def finish(self) -> None:
        """fsck as a user calls it, and nothing is left."""
        command = [sys.executable, "-m", "mqshm", "fsck", self.name]
        fsck = subprocess.run(command, capture_output=True, text=True, check=False)
        if fsck.returncode:
            self.problems.append(f"seed {self.seed}: mqshm fsck: {fsck.stdout}{fsck.stderr}")

    def destroy(self) -> None:
        mqshm.destroy(self.name)
        if left := list(Path("/dev/shm").glob(f"mqshm.{self.name}*")):
            self.problems.append(f"seed {self.seed}: left in /dev/shm: {left}")


def _counters(broker: mqshm.Broker) -> dict[str, dict[str, int]]:
    groups = broker.stats().groups
    return {name: {each: getattr(groups[name], each) for each in COUNTERS} for name in plan.GROUPS}


def _drained(broker: mqshm.Broker, subs: dict[str, Any], log: Writer) -> bool:
    for name, sub in subs.items():
        while True:
            log("receive", name, 64)
            got = sub.receive_batch(64, timeout=0)
            log("received", name, [plan.seen(message, message.data) for message in got])
            if not got:
                break
            for message in got if plan.GROUPS[name].ack != mqshm.AckPolicy.NONE else ():
                log("settle", message.seq, "ack", name, [[message.seq, message.attempt]], None)
                message.ack()
                log("settled", message.seq, "done")
    groups = broker.stats().groups
    if not any(groups[name].waiting + groups[name].in_flight + groups[name].delayed for name in subs):
        return True
    mqshm.wait(*subs.values(), timeout=NAP)
    return False


def _bury(broker: mqshm.Broker, log: Writer) -> None:
    """Dead letters are written down and removed."""
    for each in deadletters.browse(broker, 1 << 20, plan.LONGEST):
        said = [each.id or plan.named(each.data), each.topic, int(each.priority), each.size, zlib.crc32(each.data),
                plan.mark(each.id, each.key, each.headers)]  # fmt: skip
        log("dead", said, each.group, each.attempts, each.reason)
    broker.purge(deadletters.GROUP)


def _empty(broker: mqshm.Broker, units: int) -> list[str]:
    """All slots free, no payload in use, fsck clean; and soon no memory is kept for payloads, nor for ids."""
    problems = []
    report = broker.fsck()
    if not report.clean or report.slots_used or report.blocks_used:
        problems.append(f"not empty at rest: {report}")

    def given_back() -> bool:
        with broker._use() as handle:
            _native.check(_native.lib.mqshm_tick(handle))
        report = broker.fsck()
        return report.blocks == 0 and report.units_used == units

    until(given_back, f"the return of the memory for payloads and ids, but {units} MiB of regions and chunks,")
    return problems
