"""The judgement over the facts of one look: a pure function, so that each reason can be had without its cause."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mqshm.config import Config
from mqshm.health import DEAD_LETTERS, DEGRADED, HEALTHY, UNHEALTHY, HealthStatus, QueueHealth, Reason, Thresholds
from mqshm.words import count, size, time

MAX_TOPICS = (1 << 18) - 1
MAX_SUBSCRIPTIONS = 4096
MAX_PROCESSES = 503
_SUBJECTS = 10  # reasons of one code; the rest are counted


@dataclass(frozen=True)
class OfLate:
    """What was seen to grow within Thresholds.late by who looks again and again, by QueueHealth.title: by how much."""

    rejected: dict[str, int]
    dropped: dict[str, int]


def judged(seen: HealthStatus, config: Config, late: OfLate, limits: Thresholds) -> HealthStatus:
    """The same with status and reasons, the worst first."""
    reasons = sorted(_reasons(seen, config, late, limits), key=lambda reason: reason.severity != UNHEALTHY)
    status = reasons[0].severity if reasons else HEALTHY
    return dataclasses.replace(seen, status=status, reasons=tuple(_cut(reasons)))


def _cut(reasons: Iterable[Reason]) -> Iterator[Reason]:
    """Without what nobody would read to the end."""
    found: dict[tuple[str, str], int] = {}
    for reason in reasons:
        key = reason.code, reason.severity
        found[key] = found.get(key, 0) + 1
        if found[key] <= _SUBJECTS:
            yield reason
    for (code, severity), number in found.items():
        if number > _SUBJECTS:
            yield Reason(code, severity, None, f"the same of {number - _SUBJECTS} more", "see those that are named")


def _reasons(seen: HealthStatus, config: Config, late: OfLate, limits: Thresholds) -> Iterator[Reason]:
    if seen.damage:
        text = f"the segment is damaged: {seen.damage}"
        yield Reason("damaged", UNHEALTHY, None, text, f"`mqshm fsck {seen.name} --repair` puts right what can be")
    yield from _memory(seen)
    yield from _machine(seen, limits)
    for queue in seen.queues:
        yield from _queue(queue, late, limits)
    yield from _troubles(seen, limits)
    yield from _processes(seen)
    yield from _limits(seen, config, limits)


def _memory(seen: HealthStatus) -> Iterator[Reason]:
    used, limit = size(seen.memory_usage), "no limit but /dev/shm"
    if seen.memory_limit:
        share = 100 * seen.memory_usage / seen.memory_limit
        limit = f"{share:.0f} % of max_memory_usage, {size(seen.memory_limit)}"
    advice = "receive what waits (see the groups), raise max_memory_usage, or choose another overflow policy"
    if seen.publishers_waiting:
        who = count(seen.publishers_waiting, "process", "processes")
        text = f"{who} cannot publish for want of memory: {used} in use, {limit}"
        yield Reason("memory_exhausted", UNHEALTHY, None, text, advice)
    elif seen.memory_high:
        yield Reason("memory_high", DEGRADED, None, f"{used} of memory in use, {limit}", advice)


def _machine(seen: HealthStatus, limits: Thresholds) -> Iterator[Reason]:
    machine = seen.machine
    if machine.shm_free < machine.shm_total * limits.shm_low:
        full = machine.shm_free < machine.shm_total * limits.shm_low / 5
        code, severity = ("shm_full", UNHEALTHY) if full else ("shm_low", DEGRADED)
        text = f"/dev/shm has {size(machine.shm_free)} free of {size(machine.shm_total)}"
        advice = (
            "remove what nobody uses (`mqshm ls`, `ls -lS /dev/shm`), or make it larger: "
            "mount -o remount,size=... /dev/shm, docker run --shm-size=..."
        )
        yield Reason(code, severity, None, text, advice)
    if machine.memory_available < machine.memory_total * limits.machine_memory_low:
        text = (
            f"the machine has {size(machine.memory_available)} of memory available, of {size(machine.memory_total)}: "
            "it is about to swap, or to kill processes"
        )
        yield Reason("machine_memory_low", DEGRADED, None, text, "end what uses most, or lower max_memory_usage")


# ---- subscriptions


def _subject(queue: QueueHealth) -> str:
    return queue.group or f"pid {queue.pid}"


def _queue(queue: QueueHealth, late: OfLate, limits: Thresholds) -> Iterator[Reason]:
    # A full one that drops is as it was meant to be. Who waits for room may be about to find the room that there is.
    waits = queue.overflow in ("block", "reject")
    if waits and (
        queue.used >= queue.buffer_size or (queue.publishers_waiting and queue.used >= 0.9 * queue.buffer_size)
    ):
        yield _full(queue)
    age = queue.oldest if queue.group != DEAD_LETTERS else None  # these wait for people
    if age is not None and age > (limits.waits if queue.consumers else limits.waits_alone):
        yield _old(queue, age)
    rates = queue.rates
    if rates and rates.redelivered > limits.redelivered * rates.delivered and rates.redelivered * rates.seconds >= 9.5:
        text = f"{rates.redelivered / rates.delivered:.0%} of what {queue.title} delivers was delivered before"
        advice = "its handlers fail, die, or take longer than ack_timeout: see panics, and the consumers' logs"
        yield Reason("redelivered", DEGRADED, _subject(queue), text, advice)
    if late.rejected or late.dropped:
        yield from _lost(queue, late)


def _full(queue: QueueHealth) -> Reason:
    text = f"{queue.title} is full: {queue.used} of {queue.buffer_size}"
    if queue.publishers_waiting:
        text += f"; {count(queue.publishers_waiting, 'process waits', 'processes wait')} to publish to it"
    if queue.consumers == 0:
        text += "; nobody receives from it"
        return Reason("queue_full", UNHEALTHY, _subject(queue), text, "start a consumer, or delete the group")
    advice = "add consumers, make them faster, or give it a larger buffer_size"
    return Reason("queue_full", DEGRADED, _subject(queue), text, advice)


def _old(queue: QueueHealth, age: float) -> Reason:
    text = f"{count(queue.waiting, 'message waits', 'messages wait')} in {queue.title} for up to {time(age)}"
    if queue.consumers == 0:
        advice = "start a consumer; purge or delete the group if nobody wants them"
        return Reason("no_consumers", DEGRADED, _subject(queue), f"{text}, and nobody receives", advice)
    text += f", with {count(queue.consumers, 'consumer', 'consumers')}"
    advice = "see whether its consumers are stuck (leases, cpu, state); add consumers"
    return Reason("backlog_old", DEGRADED, _subject(queue), text, advice)


def _lost(queue: QueueHealth, late: OfLate) -> Iterator[Reason]:
    subject, title = _subject(queue), queue.title
    if number := late.rejected.get(title):
        text = f"{count(number, 'message', 'messages')} of {title} given up of late: rejected, or over max_attempts"
        advice = "look at them in the dead-letter queue, where there is one; mend the handler, then replay them"
        yield Reason("given_up", DEGRADED, subject, text, advice)
    if number := late.dropped.get(title):
        text = f"{count(number, 'message', 'messages')} of {title} dropped of late, as overflow={queue.overflow!r} says"
        advice = "add consumers, give it a larger buffer_size, or let publishers wait: overflow='block'"
        if queue.overflow in ("block", "reject"):
            text = f"{count(number, 'message', 'messages')} of {title} removed of late, by a purge"
            advice = "nothing, where that was meant"
        yield Reason("dropped", DEGRADED, subject, text, advice)


# ---- processes

_OF_LATE = {
    "memory": ("errors", "no memory for a message", "see memory_usage, max_memory_usage and the groups that wait"),
    "corrupt": ("errors", "damage in the segment", "run `mqshm fsck`"),
    "other": ("errors", "a limit or a system call", "see the process's log for the exception"),
    "lease_lost": (
        "leases_lost",
        "a lease was over before its message was settled, which is delivered again",
        "raise ack_timeout above what the handler takes, extend() the lease, or use AckPolicy.REQUIRED",
    ),
    "panic": (
        "panics",
        "a handler or an observer raised",
        "see the process's log for the exception; what a handler raised on is delivered again",
    ),
}


def _troubles(seen: HealthStatus, limits: Thresholds) -> Iterator[Reason]:
    for kind, (code, what, advice) in _OF_LATE.items():
        trouble = seen.troubles[kind]
        if trouble.last_at is None or seen.checked_at - trouble.last_at > limits.late + 1:  # it is to the second
            continue
        where = f" in process {trouble.pid}" if trouble.pid else ""
        ago = time(max(0.0, seen.checked_at - trouble.last_at))
        text = f"{what}: {count(trouble.count, 'time', 'times')} so far, the last{where} {ago} ago"
        yield Reason(code, DEGRADED, f"pid {trouble.pid}" if trouble.pid else None, text, advice)


def _processes(seen: HealthStatus) -> Iterator[Reason]:
    if seen.unwatched:
        text = "its supervisor is gone: what is due is done late, by whoever receives or publishes"
        advice = (
            "nothing, if that passes in a second or two: a process that uses the broker starts the next; otherwise see "
            f"why that fails, or run `mqshm up {seen.name}`"
        )
        yield Reason("unwatched", DEGRADED, None, text, advice)
    for each in seen.processes:
        subject, who = f"pid {each.pid}", f"process {each.pid} ({each.program})"
        holds = f", and holds {count(each.leases, 'message', 'messages')}" if each.leases else ""
        if each.state == "dead":
            text = f"{who} is dead{holds}, and not cleaned up after yet"
            advice = (
                "nothing: a supervisor does it at once, others when they run out of messages or of room; "
                f"`mqshm fsck {seen.name} --repair` does it now"
            )
            yield Reason("process_dead", DEGRADED, subject, text, advice)
        elif each.state == "stopped" and each.role == "supervisor":
            advice = f"kill -CONT {each.pid}, or kill it: the next takes over"
            yield Reason("supervisor_stopped", DEGRADED, subject, f"the supervisor, {who}, is stopped", advice)
        elif each.state == "stopped" and each.leases:
            advice = f"kill -CONT {each.pid}, or kill it: what it holds is delivered again"
            yield Reason("process_stopped", DEGRADED, subject, f"{who} is stopped{holds}", advice)


def _limits(seen: HealthStatus, config: Config, limits: Thresholds) -> Iterator[Reason]:
    advice = "close what is not used, or use more than one broker"
    most = {
        "topics": (seen.topics, config.max_topics or MAX_TOPICS, "use fewer topics, or raise max_topics"),
        "subscriptions": (seen.subscriptions, MAX_SUBSCRIPTIONS, advice),
        "processes": (len(seen.processes), MAX_PROCESSES, advice),
    }
    for what, (number, limit, advice) in most.items():
        if number >= limit * limits.limit_near:
            yield Reason("limit_near", DEGRADED, what, f"{number} {what} of the {limit} that there can be", advice)
