"""Judges the histories of a run. Pure: events in, violations out.

What is demanded, and why no more:

loss        A message whose publish returned is, in each subscription that it matches, settled (ack or reject that
            returned done), or its settle did not return, or it is excused: its ttl is over, its subscription drops, it
            used up its attempts (where the last of them died with its receive, its dead letter says so). Excuses are
            counted, and the broker's counters must account for them: `expired`, `dropped`, and what `rejected` has
            beyond the rejects that were asked for. A process that is killed between a drop and its count leaves one
            uncounted, so each death allows one. In a calm run the counters are exact.
            Under AckPolicy.NONE receiving settles; a receive that never returned may have taken as many as it asked
            for. Of a private subscription that its process emptied, the same; of one that ended otherwise, there is no
            hole: before the last of a producer's messages that it received it has received all (that is FIFO).
invention   What is received was published: payload, topic, priority, id, key and headers are those of one publish, that
            was not refused, and that matches the subscription.
order       First deliveries of one producer's messages of one priority in one subscription: where the later message's
            receive had returned before the earlier message's receive began, it is a violation; within one process the
            order of receiving is the order of publishing. Not for redeliveries (they are served when they are due), nor
            for delayed messages, nor where the publish did not return: repair may put it anywhere.
priority    Where a message of a higher priority was there before a receive began (its publish had returned, without
            delay), and was first received by a call that began after that receive had returned, it gave nothing lower.
twice       No attempt of a message is delivered twice, none comes after an ack or reject that returned done, and at
            most one of those returns done.
attempts    Attempts are 1, 2, 3 ..., as far as its dead letter says; each one missing is of a receive that never
            returned, of a publish that never returned and dropped, or of a receive that lasted longer than a lease
            which ends by itself: who is stopped in it comes back without the message.
taken       A redelivery has a reason: the attempt before was nacked, dropped, lost by a process that was killed or
            left, or its lease ran out, not before its time; a delay is kept, too.
vanished    Whoever was not killed says that it ends, and no operation raises what it may not.
together    A publish that did not return is in all its groups or in none; a publish that was refused is in none. The
            same of a transaction: all of its messages and acks have happened, or nothing of it.
dead        See burial.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from tests.stress import burial, plan
from tests.stress.history import Event
from tests.stress.ledger import (
    FOREVER,
    NONE,
    ROUNDING,
    TIMEOUT,
    Delivery,
    Finding,
    Ledger,
    Publication,
    Sub,
    Together,
    gather,
)
from tests.stress.report import Violation, violation

_GIVES_BACK = ("nack", "drop")
_ENDS = ("ack", "reject")


def check(events: Mapping[str, Sequence[Event]]) -> list[Violation]:
    ledger = gather(events)
    burial.read(ledger, events)
    findings = [*ledger.findings]
    now = max((log[-1][1] for log in events.values() if log), default=0)
    for sub in ledger.subs.values():
        findings += _once(ledger, sub)
        findings += _order(sub)
        findings += _priority(sub)
        findings += _complete(ledger, sub, now)
    findings += _together(ledger, now)
    findings += burial.dead(ledger)
    return [violation(ledger, events, each) for each in findings[:20]]


# -- once, and one attempt after the other


def _once(ledger: Ledger, sub: Sub) -> Iterator[Finding]:
    missing = 0
    for seq, deliveries in sub.deliveries.items():
        last = 0
        final: Delivery | None = None
        for i, each in enumerate(deliveries):
            if each.attempt == last:
                yield Finding("twice", f"attempt {last} was delivered twice in {sub.name}", seq)
            missing += max(0, each.attempt - last - 1)
            last = each.attempt
            if final is not None:
                text = f"attempt {each.attempt} in {sub.name} came after attempt {final.attempt} was settled for good"
                yield Finding("twice", text, seq)
            elif sub.ack == NONE and i:
                yield Finding("twice", f"delivered {len(deliveries)} times in {sub.name}, which settles at once", seq)
            elif i and each.attempt == deliveries[i - 1].attempt + 1:
                yield from _reason(ledger, sub, deliveries[i - 1], each)
            if i == 0 and each.publication is not None:
                yield from _delayed(sub, each, each.publication)
            done = [settle for settle in each.settles if settle.verb in _ENDS and settle.outcome == "done"]
            if len(done) > 1:
                yield Finding("twice", f"attempt {each.attempt} in {sub.name} was settled {len(done)} times", seq)
            if done:
                final = each
    for letter in burial.worn_out(ledger, sub):
        deliveries = sub.deliveries.get(letter.publication.seq or -1, [])
        missing += max(0, letter.attempts - (deliveries[-1].attempt if deliveries else 0))
    dead = sub.open_receives + sub.open_drops
    if missing > dead + sub.slow_receives:
        text = f"{missing} attempts in {sub.name} were delivered to nobody, {dead} perhaps to the dead"
        yield Finding("attempts", text)


def _reason(ledger: Ledger, sub: Sub, before: Delivery, after: Delivery) -> Iterator[Finding]:
    """Why the attempt after came, not before which time."""
    allowed = FOREVER
    holder = ledger.processes.get(before.who)
    if holder is not None:
        allowed = min(holder.killed, holder.leaves)
    for settle in before.settles:
        if settle.verb in _GIVES_BACK and settle.outcome != "lost":
            allowed = min(allowed, settle.began + _ns(settle.argument) - (ROUNDING if settle.argument else 0))
    if sub.ack == TIMEOUT:
        allowed = min(allowed, _lease_ends(sub, before) - ROUNDING)
    if after.ended < allowed:
        never = (
            "for which there was no reason" if allowed == FOREVER else f"{(allowed - after.ended) / 1e9:.3f} s early"
        )
        yield Finding("taken", f"attempt {after.attempt} in {sub.name} came to {after.who}, {never}", after.seq)


def _lease_ends(sub: Sub, delivery: Delivery) -> int:
    """The earliest time at which it may."""
    asked = None if delivery.publication is None else delivery.publication.said[8]
    if delivery.publication is None:
        return 0
    # Who was stopped between the claim and the lease's time has the group's, beginning when that was noticed.
    ends = delivery.began + _ns(min(asked or FOREVER, sub.ack_timeout or 0))
    for settle in delivery.settles:
        if settle.verb == "extend" and settle.outcome != "lost":
            until = settle.began + _ns(settle.argument)
            ends = until if settle.outcome == "done" else min(ends, until)
    return ends


def _delayed(sub: Sub, first: Delivery, publication: Publication) -> Iterator[Finding]:
    delay = publication.delay
    if delay and publication.returned and first.ended < publication.began + _ns(delay) - ROUNDING:
        yield Finding("taken", f"came in {sub.name} before its delay of {delay} s was over", first.seq)


def _ns(seconds: float | None) -> int:
    return int((seconds or 0) * 1e9)


# -- order


def _order(sub: Sub) -> Iterator[Finding]:
    lanes: dict[tuple[str, int], list[Delivery]] = defaultdict(list)
    for deliveries in sub.deliveries.values():
        first = deliveries[0]
        made = first.publication
        if first.attempt == 1 and made is not None and made.returned and not made.delay:
            lanes[made.who, made.priority].append(first)
    for lane in lanes.values():
        lane.sort(key=lambda each: each.publication.n if each.publication else 0)
        soonest: Delivery | None = None
        places: dict[str, Delivery] = {}
        for each in reversed(lane):
            later = places.get(each.who)
            if later is None or each.place < later.place:
                places[each.who] = each
            if later is not None and later.place < each.place:
                yield _overtaken(sub, each, later)
            elif soonest is not None and soonest.ended < each.began:
                yield _overtaken(sub, each, soonest)
            if soonest is None or each.ended < soonest.ended:
                soonest = each


def _overtaken(sub: Sub, each: Delivery, by: Delivery) -> Finding:
    name = by.publication.uid if by.publication else ""
    return Finding("order", f"in {sub.name} {name} was received by {by.who} before it, by {each.who}", each.seq)


_Wait = tuple[int, int, int, Delivery]  # priority, from, until, and what waited


def _longer(one: _Wait, other: _Wait) -> _Wait:
    return one if one[2] >= other[2] else other


def _priority(sub: Sub) -> Iterator[Finding]:
    deliveries = [each for some in sub.deliveries.values() for each in some if each.publication is not None]
    waited = [
        (made.priority, made.ended, each.began, each)
        for each in deliveries
        if each.attempt == 1 and (made := each.publication) is not None and made.returned and not made.delay
    ]
    waited.sort(key=lambda each: each[1])
    for priority in {each.publication.priority for each in deliveries if each.publication}:
        above = [each for each in waited if each[0] > priority]
        starts = [each[1] for each in above]
        longest = list(accumulate(above, _longer))
        for each in deliveries:
            if each.publication is None or each.publication.priority != priority:
                continue
            before = bisect_left(starts, each.began)
            if before and longest[before - 1][2] > each.ended:
                over = longest[before - 1][3]
                text = f"in {sub.name} number {each.seq} of priority {priority} was received by {each.who} before it"
                yield Finding("priority", text, over.seq)


# -- loss


def _complete(ledger: Ledger, sub: Sub, now: int) -> Iterator[Finding]:
    if sub.group or sub.drained:
        due = [
            each
            for each in sub.published
            if (each.returned and each.began > sub.ready) or (sub.group and each.returned)
        ]
        late = [each for each in sub.published if each.returned and each.ended < sub.opened and not sub.group]
        yield from _settled(ledger, sub, due, now)
        for each in late:
            if each.seq in sub.deliveries:
                text = f"received in {sub.name}, which was made after its publish had returned"
                yield Finding("invention", text, each.seq)
    else:
        yield from _no_hole(sub)


def _settled(ledger: Ledger, sub: Sub, due: Iterable[Publication], now: int) -> Iterator[Finding]:
    gone: list[Publication] = []
    dead: list[Publication] = []
    nameless: list[Publication] = []
    for each in due:
        deliveries = sub.deliveries.get(each.seq or -1, [])
        if sub.ack == NONE and deliveries:
            continue
        if any(settle.verb in _ENDS and settle.outcome != "lost" for one in deliveries for settle in one.settles):
            continue
        if _excused(ledger, sub, each, deliveries, now):
            gone.append(each)
        elif sub.ack == NONE:
            dead.append(each)
        elif sub.max_attempts and each.said[3] < plan.MARK:
            nameless.append(each)
        else:
            yield Finding(
                "loss", f"in {sub.name}: it was neither settled nor dropped, nor is it there", each.seq, each.uid
            )
    if len(dead) > sub.open_receives:
        text = f"{len(dead)} in {sub.name} were received by nobody; {sub.open_receives} may have been by the dead"
        yield Finding("loss", text, dead[0].seq, dead[0].uid)
    letters = ledger.worn_out_nameless[sub.name]
    if len(nameless) > min(letters, sub.open_receives):
        text = f"{len(nameless)} without a name are gone from {sub.name}; {letters} such used up their attempts"
        text += f", {sub.open_receives} perhaps at the dead"
        yield Finding("loss", text, nameless[0].seq, nameless[0].uid)
    gone += nameless
    if sub.counters is not None:
        yield from _counted(ledger, sub, gone)


def _excused(ledger: Ledger, sub: Sub, each: Publication, deliveries: Sequence[Delivery], now: int) -> bool:
    if each.ttl is not None and each.began + _ns(each.ttl) < now:
        return True
    if sub.overflow.startswith("drop"):
        return True
    if not sub.max_attempts:
        return False
    letter = ledger.letters.get((each.uid, sub.name))
    if letter is not None and letter.reason == burial.WORN_OUT:
        return True  # its last attempts may have died with their receives: they are counted
    return bool(deliveries) and deliveries[-1].attempt >= sub.max_attempts


def _counted(ledger: Ledger, sub: Sub, gone: Sequence[Publication]) -> Iterator[Finding]:
    counters = sub.counters or {}
    ends = [
        settle
        for deliveries in sub.deliveries.values()
        for each in deliveries
        for settle in each.settles
        if settle.outcome != "lost"
    ]
    rejects = sum(each.verb == "reject" and each.outcome == "done" for each in ends)
    counted = counters["dropped"] + counters["expired"] + counters["rejected"] - rejects
    if len(gone) > counted + ledger.deaths:
        text = f"{len(gone)} are gone from {sub.name}; {counted} were counted, and {ledger.deaths} processes died"
        yield Finding("uncounted", text, gone[0].seq, gone[0].uid)
    if ledger.deaths:
        return
    received = sum(len(each) for each in sub.deliveries.values())
    acks = sum(each.verb == "ack" and each.outcome == "done" for each in ends)
    unclear = sum(each.outcome == "unknown" and each.verb in _ENDS for each in ends)
    nacks = sum(each.verb == "nack" and each.outcome == "done" for each in ends)
    for what, here, there, slack in (
        ("are gone", len(gone), counted, unclear),
        ("were delivered", received, counters["delivered"], sub.slow_receives),
        ("were settled", received if sub.ack == NONE else acks, counters["settled"], unclear),
        ("were nacked", nacks, counters["nacked"], None),
    ):
        if slack is not None and abs(here - there) > slack:
            text = f"nobody died, {here} {what} in {sub.name}, and {there} were counted"
            yield Finding("uncounted", text)


def _no_hole(sub: Sub) -> Iterator[Finding]:
    """A private subscription that ended in the middle."""
    last: dict[tuple[str, int], int] = defaultdict(int)
    for deliveries in sub.deliveries.values():
        made = deliveries[0].publication
        if made is not None and made.returned and not made.delay and deliveries[0].attempt == 1:
            lane = made.who, made.priority
            last[lane] = max(last[lane], made.n)
    for each in sub.published:
        if not each.returned or each.delay or each.ttl is not None or each.began < sub.ready:
            continue
        if each.n < last[each.who, each.priority] and each.seq not in sub.deliveries:
            text = f"in {sub.name}: it was not received, and a later one was"
            yield Finding("loss", text, each.seq, each.uid)


# -- all or nothing


def _together(ledger: Ledger, now: int) -> Iterator[Finding]:
    """Of publishes that did not return and of which something was received: it is in all that surely keep it."""
    sure = [sub for sub in ledger.subs.values() if (sub.group or sub.drained) and sub.ack != NONE]
    for each in ledger.publications.values():
        if not each.returned and not each.refused and each.seq is not None:
            for sub in _absent(ledger, sure, each, now):
                text = f"its publish did not return; it was received elsewhere, and is not in {sub.name}"
                yield Finding("together", text, each.seq, each.uid)
    for transaction in ledger.together:
        yield from _all_of_it(ledger, transaction, sure, now)


def _absent(ledger: Ledger, sure: Iterable[Sub], each: Publication, now: int) -> Iterator[Sub]:
    """Where it would have been received."""
    for sub in sure:
        if not sub.matches(each.topic) or (not sub.group and each.began < sub.ready) or each.seq in sub.deliveries:
            continue
        if sub.open_receives == 0 and not _excused(ledger, sub, each, (), now):
            yield sub


def _all_of_it(ledger: Ledger, transaction: Together, sure: Iterable[Sub], now: int) -> Iterator[Finding]:
    """It did not return. Whatever was received of it, or acked by it, says that it was committed."""
    came = next((each for each in transaction.publications if each.seq is not None), None)
    gone = next((each for each in transaction.acks if _stays_gone(ledger, each, now)), None)
    if came is None and gone is None:
        return
    why = f"{came.uid} was received" if came else f"number {gone.seq if gone else 0} of its acks did not come again"
    for each in transaction.publications:
        for sub in _absent(ledger, sure, each, now) if each.seq is None else ():
            text = f"its transaction did not return; {why}, and it is not in {sub.name}"
            yield Finding("together", text, None, each.uid)
    for ack in transaction.acks:
        deliveries = ledger.subs[ack.sub].deliveries[ack.seq]
        if deliveries[-1].attempt > ack.attempt:
            text = f"attempt {ack.attempt} in {ack.sub} was acked by a transaction of which {why}; it came again"
            yield Finding("together", text, ack.seq)


def _stays_gone(ledger: Ledger, ack: Delivery, now: int) -> bool:
    """Acked, for there is no other reason why it did not come again."""
    sub = ledger.subs[ack.sub]
    deliveries = sub.deliveries[ack.seq]
    if not (sub.group or sub.drained) or sub.open_receives or deliveries[-1].attempt > ack.attempt:
        return False
    return ack.publication is not None and not _excused(ledger, sub, ack.publication, deliveries, now)
