"""demo: the main job on real input."""

from __future__ import annotations

import argparse
from typing import Any


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser(
        "demo",
        help="count the words of Python's own source with four workers, one of which is killed",
        description="One process publishes every line of every .py file of Python's standard library (or every line of "
        "the files of another directory), four workers count words, one of them is killed in mid-run; the totals are "
        "compared with a count by a single process.",
    )
    verb.add_argument("directory", nargs="?", help="a directory of text instead of the standard library")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    from mqshm.demo import run

    return run(chosen.directory)
