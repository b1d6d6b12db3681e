"""Keeps a server while its standard input is open: a program of its own, so that no end of the benchmark leaves one.

    keeper.py FOLDER COMMANDS

COMMANDS is a JSON list of commands, started in order, each in a process group of its own. The input ends when the
benchmark closes it, or dies of whatever: then the groups are killed, in reverse order, and all that they left, which
falls to this process, and the folder goes.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def end_orphans() -> None:
    """Those whose parents were killed, and theirs in turn, until there is none."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children")
    while True:
        for pid in map(int, children.read_text().split()):
            os.kill(pid, signal.SIGKILL)  # a child that is not waited for keeps its number
        try:
            os.wait()
        except ChildProcessError:
            return


def keep(folder: Path, commands: list[list[str]]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    kept: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("ab") as log:
            for command in commands:
                kept.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=folder,
                        start_new_session=True,
                    )
                )
        sys.stdin.buffer.read()
    finally:
        for server in reversed(kept):
            try:
                os.killpg(server.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            server.wait()
        end_orphans()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), json.loads(sys.argv[2]))
