"""A finding as a person needs it: with all that happened to its message, whoever it happened to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.stress.history import Event
from tests.stress.ledger import Finding, Ledger


@dataclass
class Violation:
    kind: str
    text: str
    history: list[tuple[str, Event]]
    """All that happened to the message, with who it happened to, in the order of time."""

    def __str__(self) -> str:
        return "\n    ".join([f"{self.kind}: {self.text}", *(f"{who:>9} {event}" for who, event in self.history)])


def violation(ledger: Ledger, events: Mapping[str, Sequence[Event]], finding: Finding) -> Violation:
    seq, uid = finding.seq, finding.uid
    if uid is None and seq in ledger.by_seq:
        uid = ledger.by_seq[seq].uid
    if seq is None and uid in ledger.publications:
        seq = ledger.publications[uid].seq
    name = uid or (f"number {seq}" if seq is not None else "the run")
    return Violation(finding.kind, f"{name}: {finding.text}", list(_history(events, uid, seq)))


def _history(events: Mapping[str, Sequence[Event]], uid: str | None, seq: int | None) -> Iterator[tuple[str, Event]]:
    """Every event that concerns the message, cut to it, and the deaths of those that had it."""
    found: list[tuple[str, Event]] = []
    for who, log in events.items():
        ops: dict[int, int | None] = {}  # that concern it: where in their batch
        for event in log:
            kind, time, *rest = event
            if kind == "publish":
                for i, said in enumerate(rest[1]):
                    if said[0] == uid:
                        ops[rest[0]] = i
                        found.append((who, [kind, time, rest[0], said]))
            elif kind in ("published", "refused") and rest[0] in ops:
                i = ops.pop(rest[0]) or 0
                found.append((who, [kind, time, rest[0], *rest[1:-1], rest[-1][i] if i < len(rest[-1]) else None]))
            elif kind == "received":
                found += [(who, [kind, time, rest[0], seen]) for seen in rest[1] if seen[1] == seq]
            elif kind == "settle":
                mine = [which for which in rest[3] if which[0] == seq]
                if mine:
                    ops[rest[0]] = None
                    found.append((who, [kind, time, *rest[:3], mine, rest[4]]))
            elif (kind == "settled" and rest[0] in ops) or (kind == "look" and rest[1] == seq):
                found.append((who, event))
    involved = {who for who, _ in found}
    for who, log in events.items():
        for event in log:
            if (event[0] == "kill" and event[2] in involved) or (event[0] in ("leave", "end") and who in involved):
                found.append((who, event))
    return iter(sorted(found, key=lambda each: each[1][1]))
