"""bench: how fast this machine's messages are, beside multiprocessing.Queue in the same run."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mqshm import AckPolicy, Broker, Config, connect, destroy
from mqshm.cli import output
from mqshm.demo import children_ignore_ctrl_c

_BATCH = 100
_PATIENCE = 60.0
_context = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Result:
    what: str
    size: int
    messages: int
    rate: float | None
    """Messages a second."""
    p50: float | None
    """Microseconds of a round trip."""
    p99: float | None


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("bench", help="latency and throughput of this machine, beside multiprocessing.Queue")
    verb.add_argument("--quick", action="store_true", help="a tenth of the messages")
    output.add_json(verb)
    verb.set_defaults(run=bench)


def bench(chosen: argparse.Namespace) -> None:
    scale = 1 if chosen.quick else 10
    results = list(_results(scale))
    processors = f"{platform.machine()}, {os.cpu_count()} processors"
    machine = f"{processors}, Linux {platform.release()}, Python {platform.python_version()}"
    if chosen.json:
        output.as_json({"machine": machine, "results": results})
        return
    print(machine)
    output.table(
        ("", "bytes", "messages", "messages/s", "p50 us", "p99 us"),
        (
            (
                each.what,
                each.size,
                each.messages,
                _number(each.rate, ",.0f"),
                _number(each.p50, ".1f"),
                _number(each.p99, ".1f"),
            )
            for each in results
        ),
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _results(scale: int) -> Iterator[Result]:
    for size in (64, 1024):
        with _broker() as broker:
            yield _stream("mqshm, one by one", broker, size, 50_000 * scale, batch=False)
        with _broker() as broker:
            yield _stream(f"mqshm, {_BATCH} at a time", broker, size, 100_000 * scale, batch=True)
        yield _queue_stream(size, 10_000 * scale)
    with _broker() as broker:
        yield _round_trips(broker, 64, 1000 * scale)
    yield _queue_round_trips(64, 500 * scale)


@contextmanager
def _broker() -> Iterator[Broker]:
    name = f"bench-{os.getpid()}"
    try:
        with connect(name, config=Config(default_buffer_size=4096)) as broker:
            broker.create_group("there", "there", ack=AckPolicy.NONE)
            broker.create_group("back", "back", ack=AckPolicy.NONE)
            yield broker
    finally:
        destroy(name)


@contextmanager
def _child(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    process = _context.Process(target=target, args=arguments, daemon=True)
    with children_ignore_ctrl_c():
        process.start()
    try:
        yield
        process.join(_PATIENCE)
    finally:
        if process.is_alive():
            process.kill()
            process.join()


def _answer(receive: Callable[..., Any]) -> None:
    if receive(timeout=_PATIENCE) is None:
        raise TimeoutError("the other process does not answer")


def _percentiles(times: list[float]) -> tuple[float, float]:
    times.sort()
    return times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6


def _stream(what: str, broker: Broker, size: int, messages: int, batch: bool) -> Result:
    data = bytes(size)
    with broker.subscribe("back", group="back") as back, _child(_sink, broker, messages, batch):
        _answer(back.receive)
        start = time.perf_counter()
        if batch:
            chunk = [data] * _BATCH
            for _ in range(messages // _BATCH):
                broker.publish_batch("there", chunk)
        else:
            publish = broker.publish
            for _ in range(messages):
                publish("there", data)
        _answer(back.receive)
        took = time.perf_counter() - start
    return Result(what, size, messages, messages / took, None, None)


def _sink(broker: Broker, messages: int, batch: bool) -> None:
    """Says when it is ready, and when all have arrived."""
    with broker, broker.subscribe("there", group="there") as subscription:
        broker.publish("back", b"ready")
        if batch:
            while messages > 0:
                messages -= len(subscription.receive_batch(_BATCH))
        else:
            receive = subscription.receive
            for _ in range(messages):
                receive()
        broker.publish("back", b"done")


def _round_trips(broker: Broker, size: int, messages: int) -> Result:
    data, times = bytes(size), []
    with broker.subscribe("back", group="back") as back, _child(_echo, broker, messages):
        _answer(back.receive)
        for _ in range(messages):
            start = time.perf_counter()
            broker.publish("there", data)
            _answer(back.receive)
            times.append(time.perf_counter() - start)
    return Result("mqshm, there and back", size, messages, None, *_percentiles(times))


def _echo(broker: Broker, messages: int) -> None:
    with broker, broker.subscribe("there", group="there") as subscription:
        broker.publish("back", b"ready")
        for _ in range(messages):
            message = subscription.receive()
            assert message is not None  # it waits for ever
            broker.publish("back", message.data)


@contextmanager
def _queues() -> Iterator[tuple[Any, Any]]:
    """There and back. What nobody took when the bench is cut short is not waited for at the interpreter's end."""
    there, back = _context.Queue(), _context.Queue()
    try:
        yield there, back
    finally:
        there.cancel_join_thread()


def _queue_stream(size: int, messages: int) -> Result:
    data = bytes(size)
    with _queues() as (there, back), _child(_queue_sink, there, back, messages):
        back.get(timeout=_PATIENCE)
        start = time.perf_counter()
        for _ in range(messages):
            there.put(data)
        back.get(timeout=_PATIENCE)
        took = time.perf_counter() - start
    return Result("multiprocessing.Queue", size, messages, messages / took, None, None)


def _queue_sink(there: Any, back: Any, messages: int) -> None:
    back.put(b"ready")
    for _ in range(messages):
        there.get()
    back.put(b"done")


def _queue_round_trips(size: int, messages: int) -> Result:
    data, times = bytes(size), []
    with _queues() as (there, back), _child(_queue_echo, there, back, messages):
        back.get(timeout=_PATIENCE)
        for _ in range(messages):
            start = time.perf_counter()
            there.put(data)
            back.get(timeout=_PATIENCE)
            times.append(time.perf_counter() - start)
    return Result("multiprocessing.Queue, there and back", size, messages, None, *_percentiles(times))


def _queue_echo(there: Any, back: Any, messages: int) -> None:
    back.put(b"ready")
    for _ in range(messages):
        back.put(there.get())
