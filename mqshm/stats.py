"""What a broker counts: frozen snapshots, read without holding up the traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mqshm._native import check, ffi, lib
from mqshm.config import OVERFLOWS
from mqshm.errors import SegmentCorrupt
from mqshm.message import AckPolicy, Priority

_ROLES = {lib.MQSHM_USER: "user", lib.MQSHM_SUPERVISOR: "supervisor", lib.MQSHM_FOREGROUND: "up"}


@dataclass(frozen=True)
class TopicStats:
    topic: str
    published: int
    """Messages."""
    bytes: int
    """Of their payloads."""


@dataclass(frozen=True)
class SubscriptionStats:
    """A group, or a private subscription. The counters run from its creation."""

    group: str | None
    """None: private."""
    patterns: tuple[str, ...]
    pid: int | None
    """Process that a private subscription belongs to."""
    ack: AckPolicy
    overflow: str
    buffer_size: int
    created_at: float
    """Seconds since 1970."""
    consumers: int
    """Processes that have it open."""
    waiting: int
    """Messages that can be received now."""
    waiting_by_priority: dict[int, int]
    in_flight: int
    """Messages leased to a consumer."""
    delayed: int
    """Messages whose delay, or back-off, is not over."""
    published: int
    delivered: int
    settled: int
    redelivered: int
    nacked: int
    rejected: int
    expired: int
    dropped: int


@dataclass(frozen=True)
class PeerStats:
    pid: int
    program: str
    role: str
    """user, supervisor, or up: a supervisor in the foreground."""
    alive: bool
    attached_at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class BrokerStats:
    name: str
    created_at: float
    """Seconds since 1970."""
    memory_usage: int
    """Bytes."""
    memory_limit: int
    """Bytes; 0: none."""
    published: int
    topics: dict[str, TopicStats]
    groups: dict[str, SubscriptionStats]
    private: tuple[SubscriptionStats, ...]
    peers: tuple[PeerStats, ...]


def snapshot(name: str, handle: Any) -> BrokerStats:
    total = ffi.new("mqshm_stats *")
    check(lib.mqshm_stats_get(handle, total))
    peers = dict(_peers(handle))
    subscriptions = [_subscription(each, peers) for each in _subscriptions(handle)]
    return BrokerStats(
        name=name,
        created_at=total.created_ns / 1e9,
        memory_usage=total.memory_used,
        memory_limit=total.memory_limit,
        published=total.published,
        topics={each.topic: each for each in _topics(handle)},
        groups={each.group: each for each in subscriptions if each.group is not None},
        private=tuple(each for each in subscriptions if each.group is None),
        peers=tuple(peers.values()),
    )


def find_row(handle: Any, group: str) -> tuple[int, tuple[str, ...] | None] | None:
    """Row and patterns of a group; patterns are None where they do not fit a snapshot."""
    for each in _subscriptions(handle):
        name, patterns = _text(each)
        if name == group:
            return each.row, patterns if each.text_size <= len(each.text) else None
    return None


def _topics(handle: Any) -> Iterator[TopicStats]:
    count = ffi.new("uint32_t *")
    check(lib.mqshm_topic_count(handle, count))
    name, size = ffi.new("char **"), ffi.new("uint32_t *")
    published, octets = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    found = topic = 0
    while found < count[0] and topic < 1 << 18:
        topic += 1
        code = lib.mqshm_topic_name(handle, topic, name, size)
        if code != lib.MQSHM_OK:
            continue  # a row that was given back
        found += 1
        check(lib.mqshm_topic_stats(handle, topic, published, octets))
        yield TopicStats(bytes(ffi.buffer(name[0], size[0])).decode(errors="replace"), published[0], octets[0])


def _subscriptions(handle: Any) -> Iterator[Any]:
    out = ffi.new("mqshm_sub_stats *")
    row = 0
    while (code := lib.mqshm_sub_stats_get(handle, row, out)) != lib.MQSHM_INVALID:
        row += 1
        if code != lib.MQSHM_NOT_FOUND:
            check(code)
            yield out


def _text(each: Any) -> tuple[str, tuple[str, ...]]:
    raw = bytes(ffi.buffer(each.text, min(each.text_size, len(each.text))))
    name, *patterns = raw.decode(errors="replace").rstrip("\0").split("\0") if raw.strip(b"\0") else [""]
    return name, tuple(patterns)


def _subscription(each: Any, peers: dict[int, PeerStats]) -> SubscriptionStats:
    name, patterns = _text(each)
    owner = peers.get(each.private_owner)
    try:
        ack, overflow = AckPolicy(each.ack), OVERFLOWS[each.overflow]
    except (ValueError, IndexError):
        raise SegmentCorrupt(f"subscription {each.row} has options that no mqshm wrote: run `mqshm fsck`") from None
    return SubscriptionStats(
        group=None if each.private_owner else name,
        patterns=patterns,
        pid=owner.pid if owner else None,
        ack=ack,
        overflow=overflow,
        buffer_size=each.capacity,
        created_at=each.created_ns / 1e9,
        consumers=each.consumers,
        waiting=each.waiting,
        waiting_by_priority=dict(zip(sorted(map(int, Priority), reverse=True), each.waiting_by_ring, strict=True)),
        in_flight=each.in_flight,
        delayed=each.later,
        published=each.published,
        delivered=each.delivered,
        settled=each.settled,
        redelivered=each.redelivered,
        nacked=each.nacked,
        rejected=each.rejected,
        expired=each.expired,
        dropped=each.dropped,
    )


def _peers(handle: Any) -> Iterator[tuple[int, PeerStats]]:
    out = ffi.new("mqshm_peer_stats *")
    row = 1
    while (code := lib.mqshm_peer_stats_get(handle, row, out)) != lib.MQSHM_INVALID:
        if code != lib.MQSHM_NOT_FOUND:
            check(code)
            program = ffi.string(out.name).decode(errors="replace")
            yield row, PeerStats(out.pid, program, _ROLES.get(out.role, "?"), bool(out.alive), out.attached_ns / 1e9)
        row += 1
