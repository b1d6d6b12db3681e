"""ls, status, peek: what is there."""

from __future__ import annotations

import argparse
import time
from typing import Any

from mqshm import connect, list_brokers
from mqshm.cli import output
from mqshm.stats import BrokerStats, SubscriptionStats


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("ls", help="brokers of this machine")
    output.add_json(verb)
    verb.set_defaults(run=ls)

    verb = verbs.add_parser("status", help="topics, groups and processes of a broker")
    verb.add_argument("name")
    verb.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    output.add_json(verb)
    verb.set_defaults(run=status)

    verb = verbs.add_parser("peek", help="messages that wait in a group; takes none")
    verb.add_argument("name")
    verb.add_argument("group")
    verb.add_argument("--limit", type=int, default=10, help="at most this many (10)")
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
        while True:
            stats = broker.stats()
            if chosen.json:
                output.as_json(stats, indent=None if chosen.watch else 2)
            else:
                if chosen.watch:
                    print("\033[H\033[J", end="")
                _print(stats)
            if not chosen.watch:
                return
            time.sleep(1)


def _print(stats: BrokerStats) -> None:
    limit = f" of {output.size(stats.memory_limit)}" if stats.memory_limit else ""
    age = time.time() - stats.created_at
    print(f"{stats.name}: {output.size(stats.memory_usage)}{limit}, {len(stats.topics)} topics, up {age:.0f} s")
    subscriptions = [*stats.groups.values(), *stats.private]
    if subscriptions:
        print()
        heads = (
            "group",
            "patterns",
            "waiting",
            "in flight",
            "delayed",
            "delivered",
            "redelivered",
            "rejected",
            "dropped",
        )
        output.table(heads, map(_row, subscriptions))
    if stats.topics:
        print()
        busiest = sorted(stats.topics.values(), key=lambda topic: -topic.published)
        output.table(
            ("topic", "published", "bytes"),
            ((each.topic, each.published, output.size(each.bytes)) for each in busiest[:20]),
        )
        if len(busiest) > 20:
            print(f"... and {len(busiest) - 20} topics more; --json has them all")
    print()
    output.table(
        ("pid", "program", "attached"),
        ((peer.pid, peer.program, time.strftime("%H:%M:%S", time.localtime(peer.attached_at))) for peer in stats.peers),
    )


def _row(each: SubscriptionStats) -> tuple[object, ...]:
    name = each.group if each.group is not None else f"(private to {each.pid})"
    return (name, " ".join(each.patterns), each.waiting, each.in_flight, each.delayed, each.delivered, each.redelivered,
            each.rejected, each.dropped)  # fmt: skip


def peek(chosen: argparse.Namespace) -> None:
    with connect(chosen.name, create=False, supervisor=False) as broker:
        found = broker.peek(chosen.group, chosen.limit)
    if chosen.json:
        output.as_json(found)
        return
    for each in found:
        print(f"{each.seq} {each.topic} priority={int(each.priority)} attempt={each.attempt} {each.size} bytes")
        print(f"    {each.data[:200].decode(errors='replace')}")
