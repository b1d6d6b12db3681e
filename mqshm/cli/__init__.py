"""The command `mqshm`: one file for each group of verbs, each of which adds its parsers and does what they say."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Sequence

from mqshm import __version__
from mqshm.cli import bench, completion, config, demo, dlq, look, supervise, top, traffic, upkeep
from mqshm.errors import MQError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="mqshm", description="Message brokers in this machine's shared memory.")
    made.add_argument("--version", action="version", version=f"mqshm {__version__}")
    verbs = made.add_subparsers(metavar="VERB", required=True)
    for group in (supervise, look, top, config, traffic, dlq, upkeep, bench, demo, completion):
        group.add_verbs(verbs)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 with a line on stderr, 2 for a wrong command line, 130 for Ctrl-C."""
    chosen = parser().parse_args(arguments)
    if sys.stdout is None:  # its descriptor may be the next file that is opened
        return _failed("stdout is closed, so there is nowhere to print: use >/dev/null")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what this locale cannot print is no reason to stop
    try:
        code: int = chosen.run(chosen) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who read the output has gone: nothing left to say, and nowhere to say it when the interpreter flushes.
        _discard_output()
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (MQError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of shared memory it is a MemoryLimitExceeded
            _discard_output()
            return _failed("the output cannot be written: no space left on its device")
        return _failed(str(error) or type(error).__name__)


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(why: str) -> int:
    print(f"mqshm: {why}", file=sys.stderr)
    return 1
