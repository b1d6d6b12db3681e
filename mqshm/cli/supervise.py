"""up: a broker with its supervisor in the foreground."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mqshm import settings
from mqshm.supervisor import process


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser(
        "up",
        help="make a broker, and run its supervisor in the foreground",
        description="What is said here goes before the environment (MQSHM_MAX_TOPICS=100 and so on), that before the "
        "file, that before the defaults. It is for a broker that is made; one that is there keeps its configuration: "
        "`mqshm config` changes it.",
    )
    verb.add_argument("name")
    verb.add_argument("--memory", metavar="SIZE", help="limit of a broker that is made: 512MiB, 1GiB")
    verb.add_argument("--config", metavar="FILE.toml", help="its configuration, as `mqshm config NAME` prints one")
    verb.set_defaults(run=up)


def up(chosen: argparse.Namespace) -> int:
    config = settings.load(chosen.config, os.environ, {"max_memory_usage": chosen.memory})
    return process.foreground(chosen.name, config, 0o600)
