"""dlq: what was given up; looked at, put back, thrown away."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

from mqshm import connect
from mqshm.cli import output
from mqshm.deadletters import GROUP

_SHOWN = 60  # bytes of a payload


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("dlq", help="dead letters: ls, replay, purge")
    verb.add_argument("name")
    verb.add_argument("what", choices=("ls", "replay", "purge"), nargs="?", default="ls")
    verb.add_argument("--limit", type=output.count, help="at most so many (ls: 100, if not given)")
    verb.add_argument("--topic", help="replay: only those of this topic")
    output.add_json(verb)
    verb.set_defaults(run=dlq)


def dlq(chosen: argparse.Namespace) -> None:
    with connect(chosen.name, create=False, supervisor=False) as broker:
        if chosen.what == "replay":
            count = broker.replay_dead_letters(chosen.limit, chosen.topic)
            _say(chosen, {"replayed": count}, f"{count} dead letters are on their topics again")
        elif chosen.what == "purge":
            count = broker.purge(GROUP)
            _say(chosen, {"purged": count}, f"{count} dead letters removed")
        else:
            letters = broker.dead_letters(100 if chosen.limit is None else chosen.limit)
            stats = broker.dead_letter_stats()
            if chosen.json:
                shown = [{**dataclasses.asdict(each), "data": each.data.decode(errors="replace")} for each in letters]
                output.as_json({**dataclasses.asdict(stats), "letters": shown})
                return
            if not stats.enabled:
                print(f"no dead letters are kept: `mqshm config {chosen.name} set dead_letter_topic TOPIC` begins to")
                return
            print(f"{stats.current_count} dead letters on {stats.topic}, {stats.total_messages} so far")
            if letters:
                heads = ("seq", "topic", "group", "attempts", "given up", "reason", "data")
                output.table(heads, (_row(each) for each in letters))


def _row(each: Any) -> tuple[object, ...]:
    data = each.data[:_SHOWN].decode(errors="replace")
    text = "".join(letter if letter.isprintable() else "." for letter in data)
    given_up = time.strftime("%m-%d %H:%M:%S", time.localtime(each.last_at))
    return each.seq, each.topic, each.group or "-", each.attempts, given_up, each.reason, text


def _say(chosen: argparse.Namespace, data: dict[str, int], text: str) -> None:
    if chosen.json:
        output.as_json(data)
    else:
        print(text)
