"""config: a broker's configuration, read and changed while it is in use."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mqshm import Config, InvalidConfig, connect
from mqshm.cli import output
from mqshm.config import FIXED
from mqshm.settings import field, to_text, to_toml


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser(
        "config",
        help="read and change a broker's configuration",
        description="Without more it prints the configuration, as a file that `mqshm up --config` takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="get [FIELD ...]              prints those fields\n"
        "set FIELD VALUE              changes one, for every process at once\n"
        "set FIELD=VALUE [F=V ...]    changes them together, or none of them\n\n"
        "Bytes and seconds may have a unit: 512MiB, 1.5s, 200ms.",
    )
    verb.add_argument("name")
    verb.add_argument("action", nargs="?", choices=("get", "set"), default="get")
    verb.add_argument("words", nargs="*", metavar="FIELD")
    output.add_json(verb)
    verb.set_defaults(run=config)


def config(chosen: argparse.Namespace) -> None:
    changes = _changes(chosen.words) if chosen.action == "set" else {}
    with connect(chosen.name, create=False, supervisor=False) as broker:
        found = broker.update_config(**changes) if changes else broker.config
    names = list(changes) if chosen.action == "set" else chosen.words
    if names:
        _print_fields(found, names, chosen.json)
    elif chosen.json:
        output.as_json(found)
    else:
        print(to_toml(found), end="")


def _print_fields(found: Config, names: Sequence[str], as_json: bool) -> None:
    found.replace(**{name: getattr(found, name, None) for name in names})  # says so where there is no such field
    if as_json:
        output.as_json({name: getattr(found, name) for name in names})
    else:
        for name in names:
            print(f"{name} = {to_text(getattr(found, name))}")


def _changes(words: Sequence[str]) -> dict[str, Any]:
    if words and "=" not in words[0]:
        if len(words) != 2:
            raise InvalidConfig(f"set takes FIELD VALUE, or FIELD=VALUE for each of several, not {' '.join(words)!r}")
        words = ["=".join(words)]
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise InvalidConfig(f"{word!r} is not FIELD=VALUE")
        if key in FIXED:
            Config().replace(**{key: text})  # which says why not
        changes[key] = field(key, text, "command line")
    if not changes:
        raise InvalidConfig("set takes FIELD VALUE, or FIELD=VALUE for each of several")
    return changes
