"""top: a broker's groups, topics and processes as they change."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mqshm import Broker, HealthStatus, MQError, connect, list_brokers
from mqshm.cli import output, panel, terminal
from mqshm.cli.panel import Column, TopicRate, age, number
from mqshm.words import size

_VIEWS = {"g": panel.QUEUES, "t": panel.TOPICS, "p": panel.PROCESSES}
_SORTED = {"g": "WAITING", "t": "IN/s", "p": "CPU%"}
_NAMES = {"g": "groups", "t": "topics", "p": "processes"}
_KEYS = "q quit  g groups  t topics  p processes  < > sort by  r reverse"
_FIRST = 0.3  # seconds that the first rates are counted over

_BROKERS = [
    Column("BROKER", lambda seen: seen.name, lambda seen: seen.name, 0),
    Column("STATUS", lambda seen: seen.status, lambda seen: seen.status, 1),
    number("WAITING", lambda seen: seen.waiting, 2),
    Column("MEMORY", lambda seen: size(seen.memory_usage), lambda seen: seen.memory_usage, 3),
    number("IN/s", lambda seen: seen.rates and seen.rates.published, 4),
    number("OUT/s", lambda seen: seen.rates and seen.rates.settled, 5),
    number("PROCESSES", lambda seen: len(seen.processes), 6),
    number("LEASED", lambda seen: seen.in_flight, 7),
    Column("UP", lambda seen: age(seen.uptime), lambda seen: seen.uptime, 8),
]


@dataclass(frozen=True)
class View:
    """What is shown; changed by keys."""

    rows: str = "g"
    column: str = "WAITING"
    reverse: bool = False

    def after(self, key: str) -> View:
        if key in _VIEWS:
            return View(key, _SORTED[key])
        if key == "r":
            return replace(self, reverse=not self.reverse)
        if key in ("<", ">"):
            heads = [each.head for each in _VIEWS[self.rows]]
            step = 1 if key == ">" else -1
            return replace(self, column=heads[(heads.index(self.column) + step) % len(heads)])
        return self


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("top", help="groups, topics, processes and rates of a broker, live")
    verb.add_argument("name", nargs="?", help="without it: the brokers of this machine")
    verb.add_argument("--interval", type=output.interval, default=1.0, metavar="SECONDS", help="between two looks (1)")
    output.add_json(verb)
    verb.set_defaults(run=top)


def top(chosen: argparse.Namespace) -> None:
    live = terminal.is_one() and not chosen.json
    show = _one(chosen.name, live, chosen.json) if chosen.name is not None else _all(live, chosen.json)
    next(show)
    with terminal.Keys() if live else terminal.NoKeys() as keys:
        key = keys.wait(_FIRST)
        while key != "q":
            show.send(key)
            if not live:
                break
            key = keys.wait(chosen.interval)
    show.close()


def _one(name: str, live: bool, as_json: bool) -> Generator[None, str, None]:
    """Shows the broker each time that it is sent a key, or none."""
    view = View()
    with connect(name, create=False, supervisor=False) as broker:
        broker.health_check()
        topics = Topics(broker)
        while True:
            view = view.after((yield))
            seen = panel.without(broker.health_check(), os.getpid())
            if as_json:
                output.as_json({"health": seen, "topics": topics.look()})
            else:
                rows = topics.look() if view.rows == "t" or not live else []
                output.screen(frame(seen, rows, view, *output.room(), live), clear=live)


class Topics:
    """What was published to each topic since the last look."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._at = time.monotonic()
        self._before = {name: each.published for name, each in broker.stats().topics.items()}

    def look(self) -> list[TopicRate]:
        now, at = self._broker.stats().topics, time.monotonic()
        seconds = max(at - self._at, 1e-3)
        found = [
            TopicRate(name, each.published, each.bytes, (each.published - self._before.get(name, 0)) / seconds)
            for name, each in now.items()
        ]
        self._at, self._before = at, {name: each.published for name, each in now.items()}
        return found


def frame(
    seen: HealthStatus, topics: list[TopicRate], view: View, width: int, height: int, live: bool
) -> list[str]:  # fmt: skip
    """The screen; where nobody presses keys, all there is."""
    lines = panel.heading(seen, width)
    trouble = panel.reasons(seen, width)
    rows: dict[str, list[Any]] = {"g": list(seen.queues), "t": topics, "p": list(seen.processes)}
    if not live:
        for key, columns in _VIEWS.items():
            if rows[key]:
                lines += ["", *panel.table(columns, _sorted(rows[key], View(key, _SORTED[key])), width)]
        return [*lines, *([""] if trouble else []), *trouble]
    lines += trouble[: max(2, height // 4)]
    lines.append(panel.cut(f"-- {_NAMES[view.rows]} -- {_KEYS}", width))
    room = max(1, height - len(lines) - 2)  # the heading of the table, and the line that the cursor is in
    lines += panel.table(_VIEWS[view.rows], _sorted(rows[view.rows], view)[:room], width, view.column)
    return lines[: height - 1]


def _sorted(rows: list[Any], view: View) -> list[Any]:
    column = next(each for each in _VIEWS[view.rows] if each.head == view.column)
    words = bool(rows) and isinstance(column.rank(rows[0]), str)  # words from a to z, numbers from the largest on
    return sorted(rows, key=column.rank, reverse=words == view.reverse)


def _all(live: bool, as_json: bool) -> Generator[None, str, None]:
    """The same for the brokers of this machine, as they come and go."""
    brokers: dict[str, Broker] = {}
    try:
        while True:
            seen = list(_each(brokers))
            yield
            seen = list(_each(brokers))
            if as_json:
                output.as_json(seen)
            else:
                width, height = output.room()
                lines = panel.table(_BROKERS, seen[: height - 2], width) if seen else ["no broker on this machine"]
                output.screen(lines, clear=live)
    finally:
        for broker in brokers.values():
            broker.close()


def _each(brokers: dict[str, Broker]) -> Iterator[HealthStatus]:
    names = list_brokers()
    for name in brokers.keys() - set(names):
        brokers.pop(name).close()
    for name in names:
        with suppress(MQError, OSError):  # another user's, or gone just now
            if name not in brokers:
                brokers[name] = connect(name, create=False, supervisor=False)
            yield panel.without(brokers[name].health_check(), os.getpid())
