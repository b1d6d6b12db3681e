"""The main job: the words of a directory of text, counted by processes of which one is killed, and nothing lost.

    publisher --lines.DIRECTORY--> group of four workers --results--> aggregator (this process)

A worker takes up to 256 lines, publishes what it counted in them as one result, and then acks them. The one that is
killed may have published and not acked, or neither: its lines are delivered again. So a result carries the sequence
number of each line and the counts line by line, and the aggregator takes each line once.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from mqshm import Broker, Config, Delivery, MQError, Priority, SubscriptionClosed, connect, destroy

WORKERS = 4
BATCH = 256
KILL_AT = 0.4
"""Share of the lines after which a worker is killed."""
PATIENCE = 30.0
"""Seconds without any result after which the run has failed."""
_WORD = re.compile(r"[^\W\d]\w*")


@dataclass
class Totals:
    lines: int = 0
    words: Counter[str] = field(default_factory=Counter)


def run(directory: str | None = None) -> int:
    """Exit code: 0 where both counts are the same."""
    root = Path(sysconfig.get_path("stdlib") if directory is None else directory)
    if directory == "":
        raise ValueError("the directory's name is empty: leave it out for Python's own source")
    files = list(_files(root, everything=directory is not None))
    started = time.perf_counter()
    expected = count_alone(files)
    alone = time.perf_counter() - started
    if expected.lines == 0:
        raise ValueError(f"{root} has no text to count")
    print(f"input      {len(files):,} files, {expected.lines:,} lines, {expected.words.total():,} words under {root}")
    print(f"reference  one process alone counts them in {alone:.1f} s")

    name = f"demo-{os.getpid()}"
    try:
        with connect(name, config=Config(default_buffer_size=1 << 16)) as broker:
            return _run(broker, root, files, expected)
    finally:
        with contextlib.suppress(MQError):
            destroy(name)


def _run(broker: Broker, root: Path, files: Sequence[Path], expected: Totals) -> int:
    broker.create_group("workers", "lines.#")
    broker.create_group("aggregator", "results")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(broker,), name=f"worker {n + 1}") for n in range(WORKERS)]
    publisher = context.Process(target=publish, args=(broker, root, files), name="publisher")
    processes: list[BaseProcess] = [*workers, publisher]
    started = time.perf_counter()
    try:
        with children_ignore_ctrl_c():
            for process in processes:
                process.start()
        counted = _aggregate(broker, expected.lines, workers[1])
        took = time.perf_counter() - started
        group = broker.stats().groups["workers"]
        broker.delete_group("workers")  # which ends the workers
        for process in processes:
            process.join(PATIENCE)
    finally:
        for process in processes:
            if process.pid is not None and process.is_alive():
                process.kill()
                process.join()
    print(f"broker     {expected.lines / took:,.0f} lines/s from publisher to aggregator, {took:.1f} s in all")
    print(f"deliveries {group.delivered:,}, of which {group.redelivered:,} again after the kill")
    return _compare(expected, counted)


def _aggregate(broker: Broker, lines: int, victim: BaseProcess) -> Totals:
    counted, seen, results = Totals(), set[int](), 0
    bar = _Bar(lines)
    with broker.subscribe("results", group="aggregator") as subscription:
        while counted.lines < lines:
            message = subscription.receive(timeout=PATIENCE)
            if message is None:
                bar.end(f"nothing came for {PATIENCE:.0f} s")
                break
            with message:
                _add(counted, seen, message.data)
            results += 1
            if victim.is_alive() and counted.lines > lines * KILL_AT and victim.pid is not None:
                os.kill(victim.pid, signal.SIGKILL)
                victim.join()
                bar.say(f"{victim.name} (pid {victim.pid}) was killed with SIGKILL")
            bar.show(counted.lines)
    bar.end(f"{results:,} results")
    return counted


def _add(counted: Totals, seen: set[int], result: bytes) -> None:
    """The head of a result is the sum of its lines, which is right where all of them are new, as nearly always."""
    head, _, each = result.partition(b"\n")
    seqs, words = json.loads(head)
    if seen.isdisjoint(seqs):
        counted.words.update(words)
        counted.lines += len(seqs)
        seen.update(seqs)
        return
    for seq, words in zip(seqs, json.loads(each), strict=True):
        if seq not in seen:
            seen.add(seq)
            counted.lines += 1
            counted.words.update(words)


def _compare(expected: Totals, counted: Totals) -> int:
    if counted == expected:
        top = ", ".join(f"{word} {n:,}" for word, n in counted.words.most_common(5))
        print(f"equal      {counted.lines:,} lines, {counted.words.total():,} words: {top} ...")
        return 0
    wrong = sum(1 for word in expected.words | counted.words if expected.words[word] != counted.words[word])
    print(
        f"mqshm: NOT equal: {counted.lines:,} lines counted of {expected.lines:,}; {wrong:,} words differ",
        file=sys.stderr,
    )
    return 1


# -- the processes


@contextlib.contextmanager
def children_ignore_ctrl_c() -> Iterator[None]:
    """Children started here are ended by their parent, and do not each tell the terminal of a KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def publish(broker: Broker, root: Path, files: Sequence[Path]) -> None:
    """Every line of every file, each directory with a priority of its own."""
    priorities = list(Priority)
    with broker:
        for path in files:
            folder = path.parent.relative_to(root)
            topic = ".".join(["lines", *(part.replace(".", "_") for part in folder.parts)])
            priority = priorities[sum(map(ord, str(folder))) % len(priorities)]
            broker.publish_batch(topic, _lines(path), priority=priority, timeout=PATIENCE)


def work(broker: Broker) -> None:
    parent = os.getppid()
    with broker, broker.subscribe("lines.#", group="workers") as subscription:
        while os.getppid() == parent:
            try:
                messages = subscription.receive_batch(BATCH, timeout=1.0)
            except SubscriptionClosed:
                return
            if messages:
                broker.publish("results", _result(messages))
                subscription.ack_batch(messages)


def _result(messages: Sequence[Delivery]) -> bytes:
    each = [Counter(_words(message.data)) for message in messages]
    total: Counter[str] = Counter()
    for words in each:
        total.update(words)
    head = json.dumps([[message.seq for message in messages], total])
    return f"{head}\n{json.dumps(each)}".encode()


def count_alone(files: Sequence[Path]) -> Totals:
    totals = Totals()
    for path in files:
        for line in _lines(path):
            totals.lines += 1
            totals.words.update(_words(line))
    return totals


# -- the text


def _files(root: Path, everything: bool) -> Iterator[Path]:
    """The .py files of the standard library, without what was installed beside it; or all text of a directory."""
    if not root.is_dir():
        raise ValueError(f"{root} is not a directory")
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if everything or not each.endswith("-packages"))
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and (_is_text(path) if everything else name.endswith(".py")):
                yield path


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(8192)
    except OSError:
        return False


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _words(line: bytes) -> list[str]:
    return _WORD.findall(line.decode(errors="replace"))


class _Bar:
    """Progress on a terminal; only what happened where there is none."""

    WIDTH = 40

    def __init__(self, whole: int) -> None:
        self.whole = whole
        self.shown_at = 0.0
        self.terminal = sys.stdout.isatty()
        self.started = time.perf_counter()

    def show(self, done: int) -> None:
        now = time.perf_counter()
        if self.terminal and (now - self.shown_at > 0.1 or done >= self.whole):
            self.shown_at = now
            full = self.WIDTH * done // self.whole
            rate = done / (now - self.started)
            print(
                f"\r[{'#' * full}{'.' * (self.WIDTH - full)}] {done / self.whole:4.0%} {rate:10,.0f} lines/s",
                end="",
                flush=True,
            )

    def say(self, text: str) -> None:
        print(f"{chr(13) + chr(27) + '[K' if self.terminal else ''}killed     {text}", flush=True)

    def end(self, text: str) -> None:
        print(f"{chr(13) + chr(27) + '[K' if self.terminal else ''}received   {text}", flush=True)
