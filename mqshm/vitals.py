"""Looking at a broker's health: one call of the core for all that the segment says, whole columns of it as numpy
arrays, and psutil for what the kernel says of the processes."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy
import psutil

from mqshm import _native
from mqshm._native import check, ffi, lib
from mqshm.config import OVERFLOWS, Config
from mqshm.diagnosis import MAX_SUBSCRIPTIONS, OfLate, judged
from mqshm.errors import SegmentCorrupt
from mqshm.health import (
    DEAD_LETTERS,
    TROUBLES,
    HealthStatus,
    MachineHealth,
    ProcessHealth,
    QueueHealth,
    Rates,
    Thresholds,
    Trouble,
)
from mqshm.message import Priority

_Made = TypeVar("_Made")
_PEERS = 512
_SHORTEST = 0.2  # seconds: over less than that a rate says nothing
_TEXT = 1 << 12
_PRIORITIES = tuple(sorted(map(int, Priority), reverse=True))
_COUNTERS = ("published", "delivered", "settled", "redelivered", "rejected", "expired", "dropped")
_RATES = ("seconds", *_COUNTERS)
_AS_THEY_ARE = {
    "capacity": "buffer_size",
    "consumers": "consumers",
    "publishers": "publishers_waiting",
    "waiting": "waiting",
    "in_flight": "in_flight",
    "later": "delayed",
    "used": "used",
    "nacked": "nacked",
    **{name: name for name in _COUNTERS},
}
"""Columns of mqshm_sub_health, and the fields of QueueHealth that they are."""
_REJECTED, _DROPPED = _COUNTERS.index("rejected"), _COUNTERS.index("dropped")


def _dtype() -> numpy.dtype[Any]:
    """Of mqshm_sub_health, as cffi knows it."""
    formats, offsets = {}, {}
    for name, field in ffi.typeof("mqshm_sub_health").fields:
        array = field.type.kind == "array"
        kind = f"u{ffi.sizeof(field.type.item if array else field.type)}"
        formats[name], offsets[name] = (kind, field.type.length) if array else kind, field.offset
    return numpy.dtype(
        {
            "names": list(formats),
            "formats": list(formats.values()),
            "offsets": list(offsets.values()),
            "itemsize": ffi.sizeof("mqshm_sub_health"),
        }
    )


@dataclass(frozen=True)
class _Sample:
    """What rates are the difference of: counters by row, each with the life of the row that they are of."""

    at: float
    published: int
    words: Any
    counters: Any

    def grown_since(self, before: _Sample) -> Any:
        """By row; of a row that was used again since, from 0 on."""
        same = (before.words == self.words)[:, None]
        return numpy.maximum(self.counters - numpy.where(same, before.counters, 0), 0)


class Vitals:
    """Looks again and again, and so sees what changes. One for each Broker; may be used from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._subs = ffi.new("mqshm_sub_health[]", MAX_SUBSCRIPTIONS)
        self._rows = numpy.frombuffer(ffi.buffer(self._subs), dtype=_dtype())
        self._leases = ffi.new("uint64_t[]", _PEERS)
        self._texts: dict[int, tuple[int, tuple[str, tuple[str, ...]]]] = {}
        self._known: dict[tuple[int, int], psutil.Process] = {}
        self._base: _Sample | None = None
        self._latest: _Sample | None = None
        self._last: _Sample | None = None
        self._late: deque[tuple[float, str, str, int]] = deque()

    def look(self, handle: Any, fd: int, limits: Thresholds) -> HealthStatus:
        with self._lock:
            return self._look(handle, fd, limits)

    def _look(self, handle: Any, fd: int, limits: Thresholds) -> HealthStatus:
        out = ffi.new("mqshm_health *")
        check(lib.mqshm_health_get(handle, out, self._subs, MAX_SUBSCRIPTIONS, self._leases))
        now, damage = time.time(), ffi.string(out.damage).decode(errors="replace") if out.damaged else ""
        rows = self._rows[: out.subscriptions]
        sample = self._sample(out.published, rows)
        whole, each = self._rates(sample, rows)
        peers = list(_peers(handle))
        queues = list(self._queues(handle, rows, each, {peer.row: peer.pid for peer in peers}, now))
        here = {peer.key for peer in peers}
        self._known = {key: process for key, process in self._known.items() if key in here}
        try:
            config = _config(handle)
        except SegmentCorrupt as error:
            config, damage = Config(), damage or str(error)
        seen = HealthStatus(
            name=self._name,
            checked_at=now,
            uptime=max(0.0, now - out.created_ns / 1e9),
            supervisor=None if (watches := lib.mqshm_supervised(handle)) == 0 else max(0, watches),
            unwatched=bool(out.unwatched),
            topics=out.topics,
            subscriptions=out.subscriptions,
            waiting=int(rows["waiting"].sum()),
            in_flight=int(rows["in_flight"].sum()),
            delayed=int(rows["later"].sum()),
            dead_letters=sum(each.waiting + each.delayed for each in queues if each.group == DEAD_LETTERS),
            published=out.published,
            published_bytes=out.bytes,
            memory_usage=os.fstat(fd).st_blocks * 512,
            memory_counted=out.memory_used,
            memory_limit=out.memory_limit,
            memory_high=bool(out.memory_high),
            publishers_waiting=out.publishers,
            rates=whole,
            troubles=dict(_troubles(out, {peer.row: peer for peer in peers})),
            groups={queue.group: queue for queue in queues if queue.group is not None},
            private=tuple(queue for queue in queues if queue.group is None),
            processes=tuple(self._process(peer, self._leases[peer.row]) for peer in peers),
            machine=_machine(),
            damage=damage,
        )
        return judged(seen, config, self._of_late(sample, rows, queues, limits), limits)

    # -- what has changed since

    def _sample(self, published: int, rows: Any) -> _Sample:
        words = numpy.zeros(MAX_SUBSCRIPTIONS, dtype="u8")
        counters = numpy.zeros((MAX_SUBSCRIPTIONS, len(_COUNTERS)), dtype="i8")
        at = rows["row"].astype(numpy.intp)
        words[at] = rows["word"]
        for number, name in enumerate(_COUNTERS):
            counters[at, number] = rows[name]
        return _Sample(time.monotonic(), published, words, counters)

    def _rates(self, now: _Sample, rows: Any) -> tuple[Rates | None, list[Rates] | list[None]]:
        """Of the broker, and of its subscriptions."""
        if self._latest is None or now.at - self._latest.at >= _SHORTEST:
            self._base, self._latest = self._latest, now
        base = self._base
        if base is None or base is now:
            return None, [None] * len(rows)
        grown, seconds = now.grown_since(base), now.at - base.at
        whole = (grown.sum(axis=0) / seconds).tolist()
        whole[0] = max(0, now.published - base.published) / seconds
        still = Rates(seconds, *(0.0,) * len(_COUNTERS))  # most of many are
        each = [
            _quickly(Rates, dict(zip(_RATES, (seconds, *values), strict=True))) if any(values) else still
            for values in (grown[rows["row"].astype(numpy.intp)] / seconds).tolist()
        ]
        return Rates(seconds, *whole), each

    def _of_late(self, now: _Sample, rows: Any, queues: list[QueueHealth], limits: Thresholds) -> OfLate:
        """What is seen to grow is remembered for a while."""
        if self._last is not None:
            grown = now.grown_since(self._last)[rows["row"].astype(numpy.intp)]
            for what, number in (("rejected", _REJECTED), ("dropped", _DROPPED)):
                for at in numpy.flatnonzero(grown[:, number]).tolist():
                    self._late.append((now.at, what, queues[at].title, int(grown[at, number])))
        self._last = now
        while self._late and now.at - self._late[0][0] > limits.late:
            self._late.popleft()
        found: dict[str, dict[str, int]] = {"rejected": {}, "dropped": {}}
        for _, what, title, more in self._late:
            found[what][title] = found[what].get(title, 0) + more
        return OfLate(**found)

    # -- subscriptions

    def _queues(
        self, handle: Any, rows: Any, rates: list[Rates] | list[None], pids: dict[int, int], now: float
    ) -> Iterator[QueueHealth]:
        # Columns as lists, then a dict a row: a thousand rows cost milliseconds less than by their elements.
        names = [*_AS_THEY_ARE, "row", "word", "private_owner", "overflow", "sampled", "waiting_by_ring", "oldest_ns"]
        columns = [rows[name].tolist() for name in names]
        for row, rate in zip(zip(*columns, strict=True), rates, strict=True):
            *numbers, number, word, owner, overflow, sampled, waiting, since = row
            group, patterns = self._text(handle, number, word)
            ages = {of: max(0.0, now - ns / 1e9) for of, ns in zip(_PRIORITIES, since, strict=True) if ns}
            fields = dict(zip(_AS_THEY_ARE.values(), numbers, strict=True))
            fields["group"] = None if owner else group
            fields["patterns"] = patterns
            fields["pid"] = pids.get(owner) if owner else None
            fields["overflow"] = OVERFLOWS[overflow] if overflow < len(OVERFLOWS) else "?"
            fields["waiting_by_priority"] = dict(zip(_PRIORITIES, waiting, strict=True))
            fields["oldest"] = max(ages.values()) if ages else None
            fields["oldest_by_priority"] = ages
            fields["estimated"] = bool(sampled)
            fields["rates"] = rate
            yield _quickly(QueueHealth, fields)

    def _text(self, handle: Any, row: int, word: int) -> tuple[str, tuple[str, ...]]:
        """Name and patterns, which stay as they are for as long as the row has this word."""
        known, text = self._texts.get(row, (0, ("", ())))
        if known != word:
            room, size = ffi.new("char[]", _TEXT), ffi.new("uint32_t *")
            code = lib.mqshm_sub_text(handle, row, room, len(room), size)
            if code == lib.MQSHM_OK and size[0] > len(room):
                room = ffi.new("char[]", size[0])
                code = lib.mqshm_sub_text(handle, row, room, len(room), size)
            if code != lib.MQSHM_OK or size[0] > len(room):
                return "", ()  # gone since
            name, *patterns = bytes(ffi.buffer(room, size[0])).decode(errors="replace").removesuffix("\0").split("\0")
            text = name, tuple(patterns)
            self._texts[row] = word, text
        return text

    # -- processes

    def _process(self, peer: _Peer, leases: int) -> ProcessHealth:
        process = self._known.get(peer.key)
        if process is None and peer.alive and peer.pid_ns == _pid_namespace():
            try:
                process = self._known[peer.key] = psutil.Process(peer.pid)
            except psutil.Error:
                process = None
        cpu = rss = threads = open_files = None
        state = "unknown" if peer.alive else "dead"
        if process is not None and peer.alive:
            with process.oneshot():
                state = _asked(process.status) or state
                cpu = _asked(process.cpu_percent)
                memory = _asked(process.memory_info)
                rss = memory.rss if memory else None
                threads, open_files = _asked(process.num_threads), _asked(process.num_fds)
        role = "user" if peer.role == lib.MQSHM_USER else "supervisor"
        return ProcessHealth(
            peer.pid, peer.program, role, state, peer.attached_at, leases, peer.loans, cpu, rss, threads, open_files
        )


def _quickly(cls: type[_Made], fields: dict[str, Any]) -> _Made:
    """A frozen dataclass of all its fields, without the checks of its __init__, which cost microseconds each."""
    made = object.__new__(cls)
    object.__setattr__(made, "__dict__", fields)
    return made


def _asked(question: Callable[[], Any]) -> Any:
    """None where the process is gone, or the kernel does not say."""
    try:
        return question()
    except (psutil.Error, OSError):
        return None


@dataclass(frozen=True)
class _Peer:
    row: int
    pid: int
    start_ticks: int
    pid_ns: int
    role: int
    program: str
    alive: bool
    attached_at: float
    loans: int

    @property
    def key(self) -> tuple[int, int]:
        """Tells it from a later process of the same number."""
        return self.pid, self.start_ticks


def _peers(handle: Any) -> Iterator[_Peer]:
    out = ffi.new("mqshm_peer_stats *")
    row = 1
    while (code := lib.mqshm_peer_stats_get(handle, row, out)) != lib.MQSHM_INVALID:
        if code != lib.MQSHM_NOT_FOUND:
            check(code)
            program = ffi.string(out.name).decode(errors="replace")
            yield _Peer(
                row, out.pid, out.start_ticks, out.pid_ns, out.role, program, bool(out.alive), out.attached_ns / 1e9,
                out.loans,
            )  # fmt: skip
        row += 1


def _troubles(out: Any, peers: dict[int, _Peer]) -> Iterator[tuple[str, Trouble]]:
    for number, kind in enumerate(TROUBLES):
        last, peer = out.trouble_s[number], peers.get(out.trouble_peer[number])
        same = peer is not None and peer.attached_at < last + 1  # else of an earlier process of that row
        yield kind, Trouble(out.troubles[number], float(last) if last else None, peer.pid if peer and same else None)


def _config(handle: Any) -> Config:
    out = ffi.new("mqshm_config *")
    check(lib.mqshm_config_get(handle, out))
    return _native.config_from_core(out)


def _machine() -> MachineHealth:
    memory, shm = psutil.virtual_memory(), os.statvfs("/dev/shm")
    return MachineHealth(
        processors=os.cpu_count() or 1,
        load=os.getloadavg(),
        memory_total=memory.total,
        memory_available=memory.available,
        shm_total=shm.f_blocks * shm.f_frsize,
        shm_free=shm.f_bavail * shm.f_frsize,
    )


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
