"""What a broker's health is made of: the facts of one look, and the reasons why they are not all well.

mqshm.vitals looks, mqshm.diagnosis judges; docs/operations.md says of each reason what it means and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
DEAD_LETTERS = "dead-letters"
"""The group in which dead letters wait."""


@dataclass(frozen=True)
class Thresholds:
    """Where a fact becomes a reason. The high-water mark of memory is the broker's own, the same for all who look:
    passed at 80 % of max_memory_usage, left below 70 %."""

    late: float = 60.0
    """Seconds for which an error, a panic, a message that was given up or dropped is "of late"."""
    waits_alone: float = 60.0
    """Seconds that a message may wait where nobody receives."""
    waits: float = 300.0
    """Seconds that a message may wait where somebody does."""
    redelivered: float = 0.1
    """Share of the deliveries since the last look that may be redeliveries, where there were at least 10 of these."""
    limit_near: float = 0.9
    """Share of a limit (topics, subscriptions, processes) from which on it is near."""
    shm_low: float = 0.1
    """Share of /dev/shm that is to be free; a fifth of it, and it is as good as full."""
    machine_memory_low: float = 0.05
    """Share of the machine's memory that is to be available."""


@dataclass(frozen=True)
class Reason:
    """Why a broker is not healthy."""

    code: str
    """Stable: for programs."""
    severity: str
    """degraded or unhealthy."""
    subject: str | None
    """Group, topic or process that it is about, where it is about one."""
    text: str
    """What is the matter."""
    advice: str
    """What to do."""


@dataclass(frozen=True)
class QueueHealth:
    """A group, or a private subscription. Of one with many slots the numbers of messages are estimates."""

    group: str | None
    """None: private."""
    patterns: tuple[str, ...]
    pid: int | None
    """Process that a private subscription belongs to."""
    overflow: str
    buffer_size: int
    consumers: int
    """Processes that have it open, and live."""
    publishers_waiting: int
    """Processes that wait for room in it."""
    waiting: int
    """Messages that can be received now."""
    waiting_by_priority: dict[int, int]
    oldest: float | None
    """Seconds since the message that waits longest was published; None: none waits."""
    oldest_by_priority: dict[int, float]
    in_flight: int
    """Messages leased to a consumer."""
    delayed: int
    """Messages whose delay, or back-off, is not over."""
    used: int
    """Of buffer_size."""
    estimated: bool
    published: int
    delivered: int
    settled: int
    redelivered: int
    nacked: int
    rejected: int
    expired: int
    dropped: int
    rates: Rates | None

    @property
    def title(self) -> str:
        if self.group is not None:
            return f"group {self.group!r}"
        return f"the private subscription of process {self.pid or '(gone)'} to {' '.join(self.patterns)[:60]}"


@dataclass(frozen=True)
class Rates:
    """Per second, between two looks of one Broker."""

    seconds: float
    """Between the two."""
    published: float
    """Messages; for the whole broker as they were published, for a subscription as they came in."""
    delivered: float
    settled: float
    redelivered: float
    rejected: float
    expired: float
    dropped: float


@dataclass(frozen=True)
class Trouble:
    """What went wrong in any process, of one kind."""

    count: int
    """Since the broker was made."""
    last_at: float | None
    """Seconds since 1970, of the last; to the second."""
    pid: int | None
    """Process of the last, where it is still attached."""


TROUBLES = ("full", "memory", "lease_lost", "corrupt", "other", "panic")
"""Kinds, in the core's order: a publish found a subscription full; no memory; a lease was over when its message was
settled; the segment holds what no mqshm wrote; too many of something, or a system call; a handler or an observer
raised."""


@dataclass(frozen=True)
class ProcessHealth:
    """An attached process. None: the kernel does not say, for it is another user's or in another pid namespace."""

    pid: int
    program: str
    role: str
    """user or supervisor."""
    state: str
    """running, sleeping, stopped and so on, as the kernel says; dead: it is gone, and not cleaned up after yet."""
    attached_at: float
    """Seconds since 1970."""
    leases: int
    """Messages that it holds unsettled."""
    loans: int
    """Payloads that it has on loan."""
    cpu: float | None
    """Percent of one processor, since the last look or since it started."""
    rss: int | None
    """Bytes of memory, the shared included."""
    threads: int | None
    open_files: int | None


@dataclass(frozen=True)
class MachineHealth:
    processors: int
    load: tuple[float, float, float]
    """Of the last 1, 5 and 15 minutes."""
    memory_total: int
    memory_available: int
    """Bytes."""
    shm_total: int
    shm_free: int
    """Bytes of /dev/shm."""


@dataclass(frozen=True)
class HealthStatus:
    """A broker at one look."""

    name: str
    checked_at: float
    """Seconds since 1970."""
    uptime: float
    """Seconds since the broker was made."""
    supervisor: int | None
    """Its process; 0: one in another pid namespace; None: nobody watches."""
    unwatched: bool
    """It had a supervisor and has none, and is in use."""
    topics: int
    subscriptions: int
    waiting: int
    in_flight: int
    """Leases out."""
    delayed: int
    dead_letters: int
    """Messages that were given up and wait to be looked at."""
    published: int
    """Messages, since the broker was made."""
    published_bytes: int
    """Of their payloads."""
    memory_usage: int
    """Bytes that the kernel says the segment occupies."""
    memory_counted: int
    """Bytes as they are counted against the limit; the same, but for a moment while memory is added."""
    memory_limit: int
    """Bytes; 0: none but /dev/shm."""
    memory_high: bool
    """Past the high-water mark, and not back below the lower one since."""
    publishers_waiting: int
    """Processes that wait for memory."""
    rates: Rates | None
    """None at a Broker's first look, which has nothing to compare with."""
    troubles: dict[str, Trouble]
    groups: dict[str, QueueHealth]
    private: tuple[QueueHealth, ...]
    processes: tuple[ProcessHealth, ...]
    machine: MachineHealth
    damage: str
    """What in the segment makes no sense; nothing is right."""
    status: str = HEALTHY
    reasons: tuple[Reason, ...] = ()

    @property
    def errors(self) -> int:
        """Operations that failed in any process since the broker was made, for the broker's reasons; without those that
        found a subscription full, which is troubles["full"]."""
        return sum(trouble.count for kind, trouble in self.troubles.items() if kind not in ("full", "panic"))

    @property
    def panics(self) -> int:
        """Times that a handler or an observer raised in any process."""
        return self.troubles["panic"].count

    @property
    def queues(self) -> Iterator[QueueHealth]:
        yield from self.groups.values()
        yield from self.private
