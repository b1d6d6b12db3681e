"""Judges the dead letters: each is of a message that was given up, and each that was given up has one.

A reject that returned done has a dead letter of its message and group; so has what used up its attempts. Each dead
letter is of one publish, with its payload, id, key and headers, and says for what it died: of a reject that was asked
for, or of as many attempts as its group allows. No message dies twice in a group, nor where it was acked. Those without
a name (a short payload, perhaps without an id), and those of private subscriptions, which have no name either, are only
compared with what was published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.stress import plan
from tests.stress.history import Event
from tests.stress.ledger import Delivery, Finding, Ledger, Letter, Sub

WORN_OUT = "max_attempts"


def read(ledger: Ledger, events: Mapping[str, Sequence[Event]]) -> None:
    """Enters the dead letters, and what is wrong with them by themselves."""
    for log in events.values():
        for kind, _time, *rest in log:
            if kind == "dead":
                ledger.buried = True
                ledger.findings += _enter(ledger, *rest)


def _enter(ledger: Ledger, said: Sequence[object], group: str, attempts: int, reason: str) -> Iterator[Finding]:
    name = None if said[0] is None else str(said[0])
    publication = ledger.publications.get(name or "")
    if publication is None:
        if name is None:
            ledger.worn_out_nameless[group] += reason == WORN_OUT
            return
        yield Finding("dead", f"a dead letter of what was never published: {said}, {group}, {reason}", None, name)
        return
    if publication.refused or list(said) != list(publication.said[:6]):
        yield Finding("dead", f"its dead letter says {said} of {publication.said}", None, publication.uid)
    if not group:
        return
    if (publication.uid, group) in ledger.letters:
        yield Finding("dead", f"it died twice in {group}", None, publication.uid)
    ledger.letters[publication.uid, group] = Letter(publication, attempts, reason)


def dead(ledger: Ledger) -> Iterator[Finding]:
    for (_uid, group), letter in ledger.letters.items():
        yield from _justified(ledger.subs[group], letter)
    for sub in ledger.subs.values() if ledger.buried else ():
        if sub.group:
            yield from _complete(sub, ledger.letters)


def worn_out(ledger: Ledger, sub: Sub) -> Iterator[Letter]:
    """Of the messages with a name that used up their attempts there."""
    for (_uid, group), letter in ledger.letters.items():
        if group == sub.name and letter.reason == WORN_OUT:
            yield letter


def _justified(sub: Sub, letter: Letter) -> Iterator[Finding]:
    made = letter.publication
    deliveries = sub.deliveries.get(made.seq or -1, [])
    if any(settle.verb == "ack" and settle.outcome == "done" for each in deliveries for settle in each.settles):
        yield Finding("dead", f"it was acked in {sub.name}, and is dead", made.seq, made.uid)
    if letter.reason == WORN_OUT:
        if not sub.max_attempts or letter.attempts < sub.max_attempts:
            yield Finding("dead", f"it died of {letter.attempts} attempts in {sub.name}", made.seq, made.uid)
    elif not any(each.attempt == letter.attempts and _rejected(each, "lost") for each in deliveries):
        text = f"it is said to have been rejected in {sub.name} at attempt {letter.attempts}: {letter.reason}"
        yield Finding("dead", text, made.seq, made.uid)


def _rejected(delivery: Delivery, but: str) -> bool:
    return any(settle.verb == "reject" and settle.outcome != but for settle in delivery.settles)


def _complete(sub: Sub, letters: Mapping[tuple[str, str], Letter]) -> Iterator[Finding]:
    for seq, deliveries in sub.deliveries.items():
        made = deliveries[0].publication
        if made is None or made.said[3] < plan.MARK:
            continue
        if (made.uid, sub.name) in letters:
            continue
        for each in deliveries:
            if any(settle.verb == "reject" and settle.outcome == "done" for settle in each.settles):
                yield Finding(
                    "dead", f"it was rejected in {sub.name}, and there is no dead letter of it", seq, made.uid
                )
        if sub.max_attempts and sub.overflow in ("block", "reject") and made.ttl is None and _worn_out(sub, deliveries):
            yield Finding("dead", f"it used up its attempts in {sub.name}, and there is no dead letter", seq, made.uid)


def _worn_out(sub: Sub, deliveries: Sequence[Delivery]) -> bool:
    """No attempt was its end."""
    ends = [settle for each in deliveries for settle in each.settles if settle.verb in ("ack", "reject")]
    return deliveries[-1].attempt >= sub.max_attempts and all(each.outcome == "lost" for each in ends)
