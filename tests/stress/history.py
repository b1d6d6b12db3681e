"""Histories: what each process asked of the broker and was told, one JSON line an event, in a file of its own.

A line is written by one `write` to a file opened for appending, so what a process had written before it was killed is
there; a line that is torn at the end of a file was never written. An operation is written down before it begins and
after it has returned: what began and did not return *may* have happened.

Events, each `[kind, time, ...]` with the time in ns of the monotonic clock, which all processes share:

    start parent                        first in each file; the file's name is the process's
    subscribe sub {options}             subscribed sub              a private subscription; groups: see below
    publish op [[uid, topic, priority, size, crc, mark, ttl, delay, ack_timeout], ...]
    published op [seq, ...]             refused op error [seq, ...]     those of a batch that are in; the rest are not
    receive sub max                     received sub [[uid, seq, topic, priority, size, crc, mark, attempt], ...]
    settle op verb sub [[seq, attempt], ...] argument
    settled op outcome                  done, lost (LeaseLost), or the number of a batch that was settled
    transaction op [op, ...]            a publish and settles that have begun, all or none of which happen
    look sub seq attempt crc            a view that was kept beyond the ack, read again
    fork child                          the child writes to a file of its own
    drained sub                         close sub                closed sub
    leave                               end                      an orderly exit, which gives back what was held
    error text                          what no operation may raise
    dead [uid, topic, priority, size, crc, mark] group attempts reason      a dead letter, found at the end
    group sub {options}                 kill who        conductor only; the kill is written before it is sent
    counters sub {counters}             what the broker counted for the group in this run

Verbs are ack, nack, reject, drop (not settled, let go) and extend.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

Event = list[Any]
SUFFIX = ".jsonl"


class Writer:
    def __init__(self, directory: Path, who: str) -> None:
        self.who = who
        self._fd = os.open(directory / (who + SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._encode = json.JSONEncoder(separators=(",", ":")).encode

    def __call__(self, kind: str, *values: Any) -> None:
        os.write(self._fd, (self._encode([kind, time.monotonic_ns(), *values]) + "\n").encode())

    def close(self) -> None:
        os.close(self._fd)


def read(directory: Path) -> dict[str, list[Event]]:
    """The events of each process, in its order."""
    return {path.name[: -len(SUFFIX)]: _events(path) for path in sorted(directory.glob("*" + SUFFIX))}


def _events(path: Path) -> list[Event]:
    *lines, _torn = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines]
