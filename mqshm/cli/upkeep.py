"""purge, fsck, rm: putting a broker right, and away."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from mqshm import connect, destroy
from mqshm.cli import output


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("purge", help="remove the messages that wait in a group")
    verb.add_argument("name")
    verb.add_argument("group")
    output.add_json(verb)
    verb.set_defaults(run=purge)

    verb = verbs.add_parser("fsck", help="account for every slot and ring cell; 1 where something is wrong")
    verb.add_argument("name")
    verb.add_argument("--repair", action="store_true", help="put right what is wrong")
    output.add_json(verb)
    verb.set_defaults(run=fsck)

    verb = verbs.add_parser("rm", help="remove a broker; its memory goes when its last process does")
    verb.add_argument("name")
    verb.set_defaults(run=rm)


def purge(chosen: argparse.Namespace) -> None:
    with connect(chosen.name, create=False, supervisor=False) as broker:
        purged = broker.purge(chosen.group)
    if chosen.json:
        output.as_json({"purged": purged})
    else:
        print(f"{purged} messages removed")


def fsck(chosen: argparse.Namespace) -> int:
    with connect(chosen.name, create=False, supervisor=False) as broker:
        report = broker.fsck(repair=chosen.repair)
    good = report.clean or (chosen.repair and report.repaired > 0)
    if chosen.json:
        output.as_json({**dataclasses.asdict(report), "clean": report.clean})
        return 0 if good else 1
    for name, value in dataclasses.asdict(report).items():
        if value != "":
            print(f"{name.replace('_', ' '):14} {value}")
    if not good:
        raise ValueError(
            f"broker {chosen.name!r} is damaged: {report.first or 'see above'}; fsck --repair puts it right"
        )
    return 0


def rm(chosen: argparse.Namespace) -> None:
    destroy(chosen.name)
