"""Runs groups of processes, bounded in time, and measures cells in interleaved rounds.

A cell is one peer in one mode under one load. One run of a cell is one fresh process group, forked, started together at
a gate, and killed as a group when it is done or late. Message counts are calibrated so that a run lasts about half a
second; then all cells run in turn, round by round, so that a slow minute of the machine falls on all of them alike.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import platform
import resource
import selectors
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

now = time.perf_counter_ns  # CLOCK_MONOTONIC: comparable between processes

TARGET_SECONDS = 0.5
PR_SET_PDEATHSIG = 1
FORK = get_context("fork")


class RunFailed(Exception):
    """A run lost, doubled, damaged or reordered a message, or did not end in time."""


@dataclass(frozen=True)
class Sample:
    """One run. `value` is in the question's unit; `detail` goes to the JSON and, in short, to the table."""

    value: float
    seconds: float = 0.0
    detail: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    peer: str
    mode: str
    variant: str
    run: Callable[[int], Sample]
    start: int = 1000  # messages of the first calibrating run
    most: int = 4_000_000
    fixed: bool = False  # the count means nothing, or is part of the question: run with `start`

    @property
    def key(self) -> str:
        return f"{self.peer}/{self.mode}/{self.variant}"


@dataclass(frozen=True)
class Result:
    key: str
    value: float | None  # the median; None where every run failed
    samples: list[float]
    count: int
    detail: dict[str, float]
    note: str = ""


# ---- process groups ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One process of a run: what it does, and the core that it is bound to."""

    work: Callable[[], Any]
    core: int | None = None


def gate(parties: int) -> Any:
    """All members wait here for each other; a member that never comes is killed with its group."""
    return FORK.Barrier(parties)


def run_group(members: Sequence[Member], timeout: float = 30.0) -> list[Any]:
    """What each member returned. Any member that fails, dies or is late fails and ends the whole group."""
    pids: list[int] = []
    pipes: list[int] = []
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        for member in members:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                _be(member, writer, pids[0] if pids else 0)
            os.close(writer)
            pipes.append(reader)
            pids.append(pid)
            os.setpgid(pid, pids[0])  # both sides do it, so that it holds before either goes on
        return _collect(pipes, time.monotonic() + timeout)
    finally:
        if pids:
            _end(pids)
        for pipe in pipes:
            os.close(pipe)


def _be(member: Member, writer: int, leader: int) -> None:
    """A member's whole life."""
    try:
        os.setpgid(0, leader)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if member.core is not None:
            os.sched_setaffinity(0, {member.core})
        gc.collect()
        gc.freeze()
        gc.disable()
        answer = pickle.dumps((True, member.work()))
    except BaseException:
        answer = pickle.dumps((False, traceback.format_exc()))
    with os.fdopen(writer, "wb") as out:
        out.write(answer)
    os._exit(0)  # the parent's exit handlers are not this process's to run


def _collect(pipes: Sequence[int], deadline: float) -> list[Any]:
    parts: dict[int, bytearray] = {pipe: bytearray() for pipe in pipes}
    answers: dict[int, Any] = {}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while len(answers) < len(pipes):
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise RunFailed("not done in time")
            for key, _ in ready:
                part = os.read(key.fd, 1 << 20)
                parts[key.fd] += part
                if part:
                    continue
                selector.unregister(key.fd)
                if not parts[key.fd]:
                    raise RunFailed("a process of the run died")
                well, answers[key.fd] = pickle.loads(parts[key.fd])
                if not well:
                    raise RunFailed(answers[key.fd])
    return [answers[pipe] for pipe in pipes]


def _end(pids: Sequence[int]) -> None:
    try:
        os.killpg(pids[0], signal.SIGKILL)
    except ProcessLookupError:
        pass
    for pid in pids:
        os.waitpid(pid, 0)


def in_child(work: Callable[[], Any], timeout: float = 30.0) -> Any:
    """Runs `work` in a process of its own, so that this one never loads what it loads."""
    return run_group([Member(work)], timeout)[0]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# ---- measuring -----------------------------------------------------------------------------------------------------


def percentiles(ns: Sequence[int]) -> dict[str, float]:
    """In microseconds."""
    ordered = sorted(ns)
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000 for name, share in shares.items()}


def calibrate(cell: Cell, target: float) -> int:
    """How many messages make a run of about `target` seconds."""
    count = cell.start
    if cell.fixed:
        return count
    for _ in range(5):
        seconds = max(cell.run(count).seconds, 1e-4)
        if seconds > target / 2 or count >= cell.most:
            break
        count = int(min(cell.most, count * min(60.0, target / seconds)))
    return count


def measure(cells: Sequence[Cell], rounds: int, target: float = TARGET_SECONDS) -> list[Result]:
    """The median of `rounds` interleaved runs of each cell. A cell that fails is out, with the reason in its note."""
    counts: dict[str, int] = {}
    samples: dict[str, list[Sample]] = {cell.key: [] for cell in cells}
    notes: dict[str, str] = {}

    def attempt(cell: Cell, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except RunFailed as failure:
            notes[cell.key] = str(failure).strip().splitlines()[-1]
            print(f"  {cell.key}: FAILED: {notes[cell.key]}")
            return None

    for cell in cells:
        count = attempt(cell, partial(calibrate, cell, target))
        if count is not None:
            counts[cell.key] = count
    for _ in range(rounds):
        for cell in cells:
            if cell.key in notes:
                continue
            sample = attempt(cell, partial(cell.run, counts[cell.key]))
            if sample is not None:
                samples[cell.key].append(sample)

    return [_result(cell, counts.get(cell.key, 0), samples[cell.key], notes.get(cell.key, "")) for cell in cells]


def _result(cell: Cell, count: int, samples: list[Sample], note: str) -> Result:
    values = [sample.value for sample in samples]
    if not values or note:  # a cell that failed once has no figure: what is not right is not fast
        return Result(cell.key, None, values, count, {}, note)
    names = samples[0].detail
    detail = {name: statistics.median(sample.detail[name] for sample in samples) for name in names}
    return Result(cell.key, statistics.median(values), values, count, detail)


def machine() -> str:
    """One line that says where the figures come from."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{model}, {cores} cores, {platform.system()} {platform.release()} {platform.machine()}, "
        f"Python {platform.python_version()}, load {load:.2f} at the start"
    )


def busy() -> bool:
    """Others are at work here: what is measured now is them as well."""
    return os.getloadavg()[0] > 0.25 * len(os.sched_getaffinity(0))


def write_json(path: Path, head: dict[str, Any], questions: dict[str, list[Result]]) -> None:
    body = {name: [asdict(result) for result in results] for name, results in questions.items()}
    path.write_text(json.dumps({**head, "questions": body}, indent=1) + "\n")
