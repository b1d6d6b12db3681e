"""ls, status, peek: what is there."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from mqshm import HealthStatus, connect, list_brokers
from mqshm.cli import output, panel

_FIRST = 0.3  # seconds that the rates of a single look are counted over
_ROWS = 40


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("ls", help="brokers of this machine")
    output.add_json(verb)
    verb.set_defaults(run=ls)

    verb = verbs.add_parser("status", help="how a broker is, and why it is not well")
    verb.add_argument("name")
    verb.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    verb.add_argument("--interval", type=output.interval, default=1.0, metavar="SECONDS", help="between two looks (1)")
    output.add_json(verb)
    verb.set_defaults(run=status)

    verb = verbs.add_parser("peek", help="messages that wait in a group; takes none")
    verb.add_argument("name")
    verb.add_argument("group")
    verb.add_argument("--limit", type=output.count, default=10, help="at most this many (10)")
    output.add_json(verb)
    verb.set_defaults(run=peek)


def ls(chosen: argparse.Namespace) -> None:
    names = list_brokers()
    if chosen.json:
        output.as_json(names)
    else:
        for name in names:
            print(name)


def status(chosen: argparse.Namespace) -> None:
    with connect(chosen.name, create=False, supervisor=False) as broker:
        broker.health_check()  # what rates are counted from
        time.sleep(_FIRST)
        while True:
            seen = panel.without(broker.health_check(), os.getpid())
            if chosen.json:
                output.as_json(seen, indent=None if chosen.watch else 2)
            else:
                output.screen(_lines(seen, *output.room()), clear=chosen.watch)
            if not chosen.watch:
                return
            time.sleep(chosen.interval)


def _lines(seen: HealthStatus, width: int, height: int) -> list[str]:
    lines = [*panel.heading(seen, width), *panel.reasons(seen, width)]
    queues = sorted(seen.queues, key=lambda queue: -queue.waiting)
    if queues:
        lines += ["", *panel.table(panel.QUEUES, queues[:_ROWS], width)]
    if len(queues) > _ROWS:
        lines.append(f"... and {len(queues) - _ROWS} more; --json has them all")
    if seen.processes:
        lines += ["", *panel.table(panel.PROCESSES, seen.processes[:_ROWS], width)]
    if len(seen.processes) > _ROWS:
        lines.append(f"... and {len(seen.processes) - _ROWS} more; --json has them all")
    return lines


def peek(chosen: argparse.Namespace) -> None:
    with connect(chosen.name, create=False, supervisor=False) as broker:
        found = broker.peek(chosen.group, chosen.limit)
    if chosen.json:
        output.as_json(found)
        return
    for each in found:
        print(f"{each.seq} {each.topic} priority={int(each.priority)} attempt={each.attempt} {each.size} bytes")
        print(f"    {each.data[:200].decode(errors='replace')}")
