"""A broker's health as lines of text of a given width: pure, so that it looks the same wherever it is shown."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mqshm.health import HealthStatus, QueueHealth
from mqshm.words import short, size
from mqshm.words import time as duration

_LEAST = 8  # characters of the first column, which may have a quarter of the width


@dataclass(frozen=True)
class Column:
    head: str
    text: Callable[[Any], str]
    rank: Callable[[Any], Any]
    """Sorted by it, the largest first."""
    need: int
    """Those of a high number go first where there is no room."""


@dataclass(frozen=True)
class TopicRate:
    topic: str
    published: int
    bytes: int
    rate: float | None
    """Messages a second since the look before."""


def number(head: str, get: Callable[[Any], float | None], need: int) -> Column:
    return Column(head, lambda row: _short(get(row)), lambda row: get(row) or 0, need)


def _short(value: float | None) -> str:
    return "-" if value is None else short(value)


def age(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _rate(name: str) -> Callable[[QueueHealth], float | None]:
    return lambda queue: getattr(queue.rates, name, None)


def _title(queue: QueueHealth) -> str:
    return queue.group if queue.group is not None else f"({' '.join(queue.patterns)} of {queue.pid})"


QUEUES = [
    Column("GROUP", _title, _title, 0),
    number("WAITING", lambda queue: queue.waiting, 1),
    Column("OLDEST", lambda queue: age(queue.oldest), lambda queue: queue.oldest or 0, 2),
    number("LEASED", lambda queue: queue.in_flight, 5),
    number("LATER", lambda queue: queue.delayed, 8),
    Column("FULL", lambda queue: f"{100 * queue.used / queue.buffer_size:.0f}%",
           lambda queue: queue.used / queue.buffer_size, 7),
    number("IN/s", _rate("published"), 3),
    number("OUT/s", _rate("settled"), 4),
    number("AGAIN", lambda queue: queue.redelivered, 9),
    number("GAVE UP", lambda queue: queue.rejected, 10),
    number("DROPPED", lambda queue: queue.dropped, 12),
    number("EXPIRED", lambda queue: queue.expired, 13),
    number("USERS", lambda queue: queue.consumers, 6),
    Column("PRIORITIES", lambda queue: " ".join(f"{of}:{short(n)}" for of, n in queue.waiting_by_priority.items() if n),
           lambda queue: tuple(queue.waiting_by_priority.values()), 20),
]  # fmt: skip
PROCESSES = [
    Column("PROGRAM", lambda each: each.program, lambda each: each.program, 0),
    Column("PID", lambda each: str(each.pid), lambda each: each.pid, 1),
    Column("CPU%", lambda each: "-" if each.cpu is None else f"{each.cpu:.0f}", lambda each: each.cpu or 0, 2),
    Column("MEMORY", lambda each: "-" if each.rss is None else size(each.rss), lambda each: each.rss or 0, 3),
    number("LEASES", lambda each: each.leases, 4),
    number("LOANS", lambda each: each.loans, 7),
    Column("STATE", lambda each: each.state, lambda each: each.state, 5),
    Column("ROLE", lambda each: each.role, lambda each: each.role, 6),
    number("THREADS", lambda each: each.threads, 10),
    number("FILES", lambda each: each.open_files, 9),
    Column("SINCE", lambda each: _clock(each.attached_at), lambda each: each.attached_at, 8),
]
TOPICS = [
    Column("TOPIC", lambda each: each.topic, lambda each: each.topic, 0),
    number("IN/s", lambda each: each.rate, 1),
    number("MESSAGES", lambda each: each.published, 2),
    Column("BYTES", lambda each: size(each.bytes), lambda each: each.bytes, 3),
]


def _clock(at: float) -> str:
    form = "%H:%M:%S" if time.time() - at < 86400 else "%Y-%m-%d"
    return time.strftime(form, time.localtime(at))


def heading(seen: HealthStatus, width: int) -> list[str]:
    limit = f" of {size(seen.memory_limit)}" if seen.memory_limit else ""
    share = f" ({100 * seen.memory_usage / seen.memory_limit:.0f}%)" if seen.memory_limit else ""
    watched = "nobody" if seen.supervisor is None else f"process {seen.supervisor}"
    machine, rates = seen.machine, seen.rates
    parts = [
        [f"{seen.name}: {seen.status}", f"up {duration(seen.uptime)}", f"watched by {watched}"],
        [f"memory {size(seen.memory_usage)}{limit}{share}", f"topics {short(seen.topics)}",
         f"subscriptions {seen.subscriptions}", f"processes {len(seen.processes)}"],
        [f"waiting {short(seen.waiting)}", f"leased {short(seen.in_flight)}", f"later {short(seen.delayed)}",
         f"dead letters {short(seen.dead_letters)}", f"published {short(seen.published)}",
         f"refused {short(seen.troubles['full'].count)}", f"errors {short(seen.errors)}",
         f"panics {short(seen.panics)}"],
        [] if rates is None else
        [f"in {short(rates.published)}/s", f"out {short(rates.settled)}/s", f"again {short(rates.redelivered)}/s",
         f"given up {short(rates.rejected)}/s", f"dropped {short(rates.dropped)}/s",
         f"expired {short(rates.expired)}/s"],
        [f"machine load {machine.load[0]:.2f} on {machine.processors}",
         f"memory {size(machine.memory_available)} free of {size(machine.memory_total)}",
         f"/dev/shm {size(machine.shm_free)} free"],
    ]  # fmt: skip
    return [line for part in parts for line in _flowed(part, width)]


def _flowed(parts: Sequence[str], width: int) -> Iterator[str]:
    """As many on a line as fit."""
    line = ""
    for part in parts:
        if line and len(line) + 2 + len(part) > width:
            yield cut(line, width)
            line = "  "
        line += ("  " if line.strip() else "") + part
    if line:
        yield cut(line, width)


def reasons(seen: HealthStatus, width: int) -> list[str]:
    lines = []
    for reason in seen.reasons:
        text = (
            f"{'!!' if reason.severity == 'unhealthy' else '!'} {reason.code}: {reason.text}. To do: {reason.advice}."
        )
        lines += textwrap.wrap(printable(text), width, subsequent_indent="   ", break_long_words=True)
    return lines


def table(columns: Sequence[Column], rows: Iterable[Any], width: int, marked: str = "") -> list[str]:
    """The first column to the left and cut where it is too long; columns that do not fit are left out. The heading of
    the column `marked` gets a star."""
    rows = list(rows)
    cells = {each.head: [each.text(row) for row in rows] for each in columns}
    shown = list(columns)
    widths = {each.head: max(map(len, [_head(each, marked), *cells[each.head]])) for each in columns}

    def needed() -> int:
        others = sum(widths[each.head] + 2 for each in shown[1:])
        return min(widths[shown[0].head], max(_LEAST, width // 4)) + others

    while len(shown) > 1 and needed() > width:
        shown.remove(max(shown[1:], key=lambda each: each.need))
    first = shown[0].head
    widths[first] = min(widths[first], max(1, width - sum(widths[each.head] + 2 for each in shown[1:])))
    lines = []
    for at in range(-1, len(rows)):
        texts = [_head(each, marked) if at < 0 else cells[each.head][at] for each in shown]
        line = [cut(texts[0], widths[first]).ljust(widths[first])]
        line += [text.rjust(widths[each.head]) for text, each in zip(texts[1:], shown[1:], strict=True)]
        lines.append("  ".join(line).rstrip())
    return lines


def _head(column: Column, marked: str) -> str:
    return column.head + "*" * (column.head == marked)


def cut(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "~"


def printable(text: str) -> str:
    """What other processes call themselves is not to move the cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def without(seen: HealthStatus, pid: int) -> HealthStatus:
    """As it would be if this process did not look."""
    return replace(seen, processes=tuple(each for each in seen.processes if each.pid != pid))
