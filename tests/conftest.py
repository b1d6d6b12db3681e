"""Brokers with names of their own, and a watch over what a test leaves behind."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("MQSHM_SUPERVISOR", "0")  # tests of the supervisor ask for one, for their children too
PREFIX = f"test-{os.getpid()}-"
_numbers = itertools.count()
DEADLINE = 20.0


def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """The first true value of the condition; fails where it does not come true in time."""
    ends = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < ends, f"{what} did not come true within {DEADLINE} s"
        time.sleep(0.005)
    return value


def segments() -> list[str]:
    return sorted(path.name for path in Path("/dev/shm").glob(f"mqshm.{PREFIX}*"))


def _working_children() -> list[psutil.Process]:
    """multiprocessing's own helpers serve all tests and are not counted."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if not any("multiprocessing" in word for word in _command(each))]


def _command(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
        return words if "spawn_main" not in " ".join(words) else []
    except psutil.Error:
        return ["multiprocessing"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = segments()
    yield
    multiprocessing.active_children()  # joins those that have ended
    until(lambda: not _working_children(), "the end of the test's processes")
    assert segments() == before, "the test left segments in /dev/shm"


@pytest.fixture
def name() -> Iterator[str]:
    """Of a broker that is there for this test alone."""
    import mqshm

    name = f"{PREFIX}{next(_numbers)}"
    yield name
    try:
        mqshm.destroy(name)
    except mqshm.BrokerNotFound:
        pass


@pytest.fixture
def broker(name: str) -> Iterator[Any]:
    import mqshm

    with mqshm.connect(name) as broker:
        yield broker
        if not broker.closed:
            report = broker.fsck()
            assert report.clean, report


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request: pytest.FixtureRequest) -> str:
    method: str = request.param
    return method


@pytest.fixture
def run() -> Iterator[Callable[..., Any]]:
    """Starts a function in another process; kills what is left of it at the end."""
    started: list[Any] = []

    def start(target: Callable[..., Any], *args: Any, method: str = "spawn") -> Any:
        process = multiprocessing.get_context(method).Process(target=target, args=args)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()
