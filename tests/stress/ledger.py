"""Histories, sorted by message: who published it, who received it and what became of each delivery. No judgement yet,
except of what is received and was never published."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.stress.history import Event

FOREVER = 1 << 63
ROUNDING = 10_000_000
"""ns by which the broker's clocks (milliseconds, coarse) may differ from the histories'."""
NONE, REQUIRED, TIMEOUT = range(3)


@dataclass(slots=True)
class Publication:
    uid: str
    who: str
    n: int
    """Order among its producer's."""
    said: Sequence[Any]
    """uid, topic, priority, size, crc, mark, ttl, delay, ack_timeout"""
    began: int
    ended: int = FOREVER
    seq: int | None = None
    returned: bool = False
    refused: bool = False

    @property
    def topic(self) -> str:
        return str(self.said[1])

    @property
    def priority(self) -> int:
        return int(self.said[2])

    @property
    def ttl(self) -> float | None:
        return None if self.said[6] is None else float(self.said[6])

    @property
    def delay(self) -> float | None:
        return None if self.said[7] is None else float(self.said[7])


@dataclass(slots=True)
class Settle:
    verb: str
    began: int
    argument: float | None
    ended: int = FOREVER
    outcome: str = "unknown"
    """done, lost, or unknown: it did not return, or a batch does not say which."""


@dataclass(slots=True)
class Delivery:
    sub: str
    seq: int
    attempt: int
    who: str
    began: int
    ended: int
    place: int
    """Among what its process received."""
    publication: Publication | None = None
    settles: list[Settle] = field(default_factory=list)


@dataclass(slots=True)
class Sub:
    name: str
    patterns: tuple[str, ...]
    ack: int
    overflow: str
    max_attempts: int
    ack_timeout: float | None
    group: bool
    opened: int
    ready: int = FOREVER
    closing: int = FOREVER
    drained: bool = False
    open_receives: int = 0
    """Messages that may have been received by calls that did not return."""
    open_drops: int = 0
    """Messages that may have been taken, to be dropped, by publishers that died before they did."""
    slow_receives: int = 0
    """Messages whose leases may have ended within a call that returned without them: it was stopped in the middle."""
    counters: dict[str, int] | None = None
    published: list[Publication] = field(default_factory=list)
    deliveries: dict[int, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    """By seq, in the order of attempts."""

    def matches(self, topic: str) -> bool:
        return any(_matches(pattern, topic) for pattern in self.patterns)


@dataclass(slots=True)
class Process:
    who: str
    started: bool = False
    killed: int = FOREVER
    leaves: int = FOREVER
    ended: bool = False


@dataclass(slots=True)
class Together:
    """What happens at once or not at all."""

    publications: list[Publication]
    acks: list[Delivery] = field(default_factory=list)


@dataclass(slots=True)
class Letter:
    """A dead one, of a message with a name."""

    publication: Publication
    attempts: int
    reason: str


@dataclass
class Finding:
    kind: str
    text: str
    seq: int | None = None
    uid: str | None = None


@dataclass
class Ledger:
    publications: dict[str, Publication] = field(default_factory=dict)
    by_seq: dict[int, Publication] = field(default_factory=dict)
    subs: dict[str, Sub] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    together: list[Together] = field(default_factory=list)
    """Transactions that did not return."""
    letters: dict[tuple[str, str], Letter] = field(default_factory=dict)
    """By the name of the message, and of its group."""
    worn_out_nameless: Counter[str] = field(default_factory=Counter)
    """Dead letters of messages without a name that used up their attempts, by group."""
    buried: bool = False
    """There was a dead letter: somebody looked for them."""
    shortest_lease: int = 0
    deaths: int = 0


@lru_cache(maxsize=4096)
def _matches(pattern: str, topic: str) -> bool:
    """Words against words, by a regular expression: nothing of the broker's own matching."""
    parts = [r"[^.]+" if word == "*" else None if word == "#" else re.escape(word) for word in pattern.split(".")]
    text = ""
    for part in parts:
        text += r"(\.[^.]+)*" if part is None else r"\." + part
    return re.fullmatch(text, "." + topic) is not None


def gather(events: Mapping[str, Sequence[Event]]) -> Ledger:
    ledger = Ledger()
    unnamed: list[tuple[Delivery, Sequence[Any]]] = []
    for who, log in events.items():
        _subscriptions(ledger, who, log)
    for process in ledger.processes.values():
        if process.started and not process.ended and process.killed == FOREVER:
            ledger.findings.append(Finding("vanished", f"process {process.who} ended without a word"))
    unfinished = {who: _publications(ledger, who, log) for who, log in events.items()}
    _drops(ledger, [publications for calls in unfinished.values() for publications in calls.values()])
    ledger.shortest_lease = _shortest_lease(ledger)
    for who, log in events.items():
        _deliveries(ledger, who, log, unnamed, unfinished[who])
    for delivery, seen in unnamed:
        _name(ledger, delivery, seen)
    for sub in ledger.subs.values():
        sub.published = [each for each in ledger.publications.values() if not each.refused and sub.matches(each.topic)]
        for deliveries in sub.deliveries.values():
            deliveries.sort(key=lambda each: each.attempt)
    return ledger


def _process(ledger: Ledger, who: str) -> Process:
    return ledger.processes.setdefault(who, Process(who))


def _subscriptions(ledger: Ledger, who: str, log: Sequence[Event]) -> None:
    for kind, time, *rest in log:
        if kind in ("group", "subscribe"):
            name, said = rest
            group = kind == "group"
            ledger.subs[name] = Sub(
                name, tuple(said["patterns"]), said["ack"], said["overflow"], said["max_attempts"],
                said["ack_timeout"], group, time, time if group else FOREVER,
            )  # fmt: skip
        elif kind == "subscribed":
            ledger.subs[rest[0]].ready = time
        elif kind == "close":
            ledger.subs[rest[0]].closing = time
        elif kind == "drained":
            ledger.subs[rest[0]].drained = True
        elif kind == "counters":
            ledger.subs[rest[0]].counters = rest[1]
        elif kind == "kill":
            process = _process(ledger, rest[0])
            ledger.deaths += process.killed == FOREVER
            process.killed = min(process.killed, time)
        elif kind == "start":
            _process(ledger, who).started = True
        elif kind == "leave":
            _process(ledger, who).leaves = time
        elif kind == "end":
            _process(ledger, who).ended = True
        elif kind == "error":
            ledger.findings.append(Finding("error", f"process {who}: {rest[0]}"))
            _process(ledger, who).ended = True


def _publications(ledger: Ledger, who: str, log: Sequence[Event]) -> dict[int, list[Publication]]:
    """Those of calls that did not return, by operation."""
    calls: dict[int, list[Publication]] = {}
    n = 0
    for kind, time, *rest in log:
        if kind == "publish":
            op, messages = rest
            calls[op] = []
            for said in messages:
                n += 1
                made = Publication(said[0], who, n, said, time)
                ledger.publications[made.uid] = made
                calls[op].append(made)
        elif kind in ("published", "refused"):
            made_all = calls.pop(rest[0])
            seqs = rest[-1]
            if kind == "published" and len(seqs) != len(made_all):
                ledger.findings.append(
                    Finding("count", f"{len(made_all)} were published, and {len(seqs)} numbers given")
                )
            for i, made in enumerate(made_all):
                made.ended = time
                if i >= len(seqs):
                    made.refused = True
                    continue
                made.seq, made.returned = seqs[i], True
                other = ledger.by_seq.setdefault(seqs[i], made)
                if other is not made:
                    text = f"{made.uid} and {other.uid} have one number"
                    ledger.findings.append(Finding("number", text, seqs[i], made.uid))
    return calls


def _deliveries(
    ledger: Ledger, who: str, log: Sequence[Event], unnamed: list[Any], unfinished: Mapping[int, list[Publication]]
) -> None:  # fmt: skip
    calls: dict[int, list[Settle]] = {}
    mine: dict[tuple[str, int, int], Delivery] = {}
    settled: dict[int, Delivery] = {}
    asked: tuple[str, int, int] | None = None  # sub, most, when
    place = 0
    for kind, time, *rest in log:
        if kind == "receive":
            asked = rest[0], rest[1], time
        elif kind == "received":
            assert asked is not None
            for seen in rest[1]:
                place += 1
                delivery = Delivery(rest[0], seen[1], seen[7], who, asked[2], time, place)
                mine[delivery.sub, delivery.seq, delivery.attempt] = delivery
                ledger.subs[rest[0]].deliveries[delivery.seq].append(delivery)
                if not _recognise(ledger, delivery, seen):
                    unnamed.append((delivery, seen))
            sub = ledger.subs[rest[0]]
            if sub.ack == TIMEOUT and time - asked[2] >= ledger.shortest_lease:
                sub.slow_receives += asked[1] - len(rest[1])
            asked = None
        elif kind == "settle":
            op, verb, name, which, argument = rest
            calls[op] = []
            for seq, attempt in which:
                made = Settle(verb, time, argument)
                calls[op].append(made)
                mine[name, seq, attempt].settles.append(made)
                settled[op] = mine[name, seq, attempt]
        elif kind == "transaction" and rest[0] in unfinished:
            ledger.together.append(Together(unfinished[rest[0]], [settled[op] for op in rest[1]]))
        elif kind == "settled":
            _settled(calls.pop(rest[0]), rest[1], time)
        elif kind == "look":
            name, seq, attempt, crc = rest
            publication = mine[name, seq, attempt].publication
            if publication is not None and publication.said[4] != crc:
                text = f"a view of it changed while it was held, after attempt {attempt} in {name}"
                ledger.findings.append(Finding("view", text, seq))
    if asked is not None:
        ledger.subs[asked[0]].open_receives += asked[1]


def _drops(ledger: Ledger, calls: Sequence[Sequence[Publication]]) -> None:
    """A publish takes one message at a time to make room; where it dies with it, it is delivered again."""
    for sub in ledger.subs.values():
        if sub.overflow in ("drop_oldest", "drop_lowest"):
            sub.open_drops = sum(any(sub.matches(each.topic) for each in publications) for publications in calls)


def _shortest_lease(ledger: Ledger) -> int:
    """ns, less what clocks differ by."""
    leases = {sub.ack_timeout for sub in ledger.subs.values()} | {each.said[8] for each in ledger.publications.values()}
    return int(min((each for each in leases if each), default=0.0) * 1e9) - ROUNDING


def _settled(calls: Sequence[Settle], outcome: Any, time: int) -> None:
    if isinstance(outcome, int):  # of a batch: all, none, or who knows which
        outcome = "done" if outcome == len(calls) else "lost" if outcome == 0 else "unknown"
    for each in calls:
        each.ended, each.outcome = time, outcome


def _recognise(ledger: Ledger, delivery: Delivery, seen: Sequence[Any]) -> bool:
    """By its number, or by the name in its payload."""
    uid, seq = seen[0], seen[1]
    publication = ledger.by_seq.get(seq)
    if publication is None:
        publication = ledger.publications.get(uid or "")
        if publication is None or publication.seq is not None:
            return False
        publication.seq = seq
        ledger.by_seq[seq] = publication
    _compare(ledger, delivery, publication, seen)
    return True


def _compare(ledger: Ledger, delivery: Delivery, publication: Publication, seen: Sequence[Any]) -> None:
    delivery.publication = publication
    if publication.refused:
        text = f"received in {delivery.sub}, though its publish was refused"
        ledger.findings.append(Finding("refused", text, delivery.seq, publication.uid))
    for name, at, said in (
        ("topic", 2, 1), ("priority", 3, 2), ("size", 4, 3), ("checksum", 5, 4), ("id, key or headers", 6, 5),
    ):  # fmt: skip
        if seen[at] is not None and seen[at] != publication.said[said]:
            text = f"{name} {seen[at]} received in {delivery.sub} by {delivery.who}, {publication.said[said]} published"
            ledger.findings.append(Finding("content", text, delivery.seq, publication.uid))
    if not ledger.subs[delivery.sub].matches(publication.topic):
        text = f"received in {delivery.sub}, whose patterns do not match {publication.topic}"
        ledger.findings.append(Finding("pattern", text, delivery.seq, publication.uid))


def _name(ledger: Ledger, delivery: Delivery, seen: Sequence[Any]) -> None:
    """A payload too short to name itself, of a publish that did not return; or one that nobody published."""
    if _recognise(ledger, delivery, seen):
        return
    if seen[4] is None:
        return  # its lease ended before it was read, and so did its publisher
    for each in ledger.publications.values():
        if each.seq is None and not each.refused and each.said[1:6] == list(seen[2:7]):
            each.seq = delivery.seq
            ledger.by_seq[delivery.seq] = each
            delivery.publication = each
            return
    text = f"{list(seen)} received in {delivery.sub} by {delivery.who} was never published"
    ledger.findings.append(Finding("invention", text, delivery.seq, seen[0]))
