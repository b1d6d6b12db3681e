"""up, worker: processes that watch, and processes that are watched."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from mqshm import settings
from mqshm.supervisor import log, process, signals
from mqshm.supervisor.handler import Work
from mqshm.supervisor.policy import Policy, Restart
from mqshm.supervisor.workers import Workers


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser(
        "up",
        help="make a broker, and run its supervisor in the foreground",
        description="Makes the broker where it is not there, and watches it until SIGTERM or Ctrl-C; logs to stderr, a "
        "line of JSON for each event. A supervisor that a user of the broker has started gives way. What is given of "
        "the configuration is set, also where the broker is there.",
    )
    verb.add_argument("name")
    verb.add_argument("--memory", metavar="SIZE", help="limit of the broker: 512MiB, 1GiB")
    verb.add_argument("--config", metavar="FILE", help="configuration, in TOML; MQSHM_<FIELD> in the environment wins")
    verb.set_defaults(run=up)

    verb = verbs.add_parser(
        "worker",
        help="run a handler in supervised processes",
        description="Calls FUNCTION with each message of the group, in processes that are restarted when they end. The "
        "message is acked when the function returns, and delivered again when it raises. SIGTERM or Ctrl-C "
        "stops in order: each process ends after the message in its hands.",
    )
    verb.add_argument("name")
    verb.add_argument("pattern")
    verb.add_argument("target", metavar="module:function")
    verb.add_argument("-c", "--processes", type=_positive, default=1, metavar="N", help="how many (1)")
    verb.add_argument("--group", help="that shares the messages; made where it is not there (module:function)")
    verb.add_argument("--ack-timeout", type=float, metavar="SECONDS", help="of a lease (none while the worker lives)")
    verb.add_argument(
        "--restart",
        choices=[each.value for each in Restart],
        default=Restart.ALWAYS.value,
        help="after which ends a process is started again (always)",
    )
    verb.add_argument("--max-restarts", type=int, default=5, metavar="N", help="give up at more than this (5) ...")
    verb.add_argument("--period", type=float, default=10.0, metavar="SECONDS", help="... within this time (10)")
    verb.add_argument("--grace", type=float, default=10.0, metavar="SECONDS", help="time to end once asked to (10)")
    verb.add_argument("--end-on-error", action="store_true", help="a process ends when the function raises")
    verb.set_defaults(run=worker)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def up(chosen: argparse.Namespace) -> int:
    return process.foreground(
        chosen.name, settings.given(chosen.config, os.environ, {"max_memory_usage": chosen.memory})
    )


def worker(chosen: argparse.Namespace) -> None:
    policy = Policy(Restart(chosen.restart), chosen.max_restarts, chosen.period)
    group = chosen.group or chosen.target
    work = Work(chosen.name, chosen.pattern, chosen.target, group, chosen.ack_timeout, chosen.end_on_error)
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it: the command's own first entry is where the command is
    log.to_stderr()
    with signals.caught() as caught:
        Workers(chosen.target, work, chosen.processes, policy, chosen.grace).run(caught)
