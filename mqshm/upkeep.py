"""Looking into a broker without taking anything, and putting it right: what an operator needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mqshm import headers
from mqshm._native import NEVER, check, ffi, lib
from mqshm.config import check_count
from mqshm.errors import GroupNotFound
from mqshm.headers import HeaderValue
from mqshm.message import Priority
from mqshm.stats import find_row

_ENVELOPE_ROOM = 1 << 16


@dataclass(frozen=True)
class Peeked:
    """A message that waits, copied."""

    topic: str
    data: bytes
    """The payload, cut where it is longer than was asked for."""
    size: int
    """Bytes of the whole payload."""
    seq: int
    id: str | None
    key: str | None
    priority: Priority
    headers: dict[str, HeaderValue]
    published_at: float
    expires_at: float | None
    attempt: int
    """Deliveries so far."""


@dataclass(frozen=True)
class FsckReport:
    """What was counted, and what was found wrong; all that is wrong is 0 in a broker at rest."""

    slots: int
    slots_used: int
    blocks: int
    blocks_used: int
    cells: int
    units_used: int
    peers_live: int
    bad_words: int
    """A state, owner, index or reference that no mqshm writes."""
    dead_owned: int
    """Slots and payloads that name a process that is gone."""
    lost_blocks: int
    """Payloads that no delivery refers to."""
    lost_slots: int
    """Messages that no ring leads to."""
    unhinted: int
    """Messages to be delivered again that no hint leads to."""
    stale_tombs: int
    repaired: int
    first: str
    """The first finding, or nothing."""

    @property
    def clean(self) -> bool:
        wrong = (self.bad_words, self.dead_owned, self.lost_blocks, self.lost_slots, self.unhinted, self.stale_tombs)
        return not any(wrong)


def fsck(handle: Any, repair: bool) -> FsckReport:
    out = ffi.new("mqshm_fsck_report *")
    check(lib.mqshm_fsck(handle, bool(repair), out))
    numbers = {name: getattr(out, name) for name in FsckReport.__dataclass_fields__ if name != "first"}
    return FsckReport(first=ffi.string(out.first).decode(errors="replace"), **numbers)


def purge(handle: Any, group: str, name: bytes) -> int:
    """Number of messages that were removed; those in flight stay."""
    core, purged = ffi.new("mqshm_sub_t **"), ffi.new("uint64_t *")
    check_found(lib.mqshm_sub_open(handle, name, len(name), core), group)
    try:
        check(lib.mqshm_purge(core[0], purged))
    finally:
        lib.mqshm_sub_close(core[0])
    return int(purged[0])


def check_found(code: int, group: str) -> None:
    if code == lib.MQSHM_NOT_FOUND:
        raise GroupNotFound(f"the broker has no group {group!r}: create_group or subscribe(group=...) makes it")
    check(code)


def peek(handle: Any, group: str, limit: int, max_bytes: int) -> Iterator[Peeked]:
    check_count("limit", limit)
    check_count("max_bytes", max_bytes)
    found = find_row(handle, group)
    if found is None:
        check_found(lib.MQSHM_NOT_FOUND, group)
        return
    row, _ = found
    cursor, out = ffi.new("uint32_t *"), ffi.new("mqshm_delivery *")
    copy = ffi.new("unsigned char[]", max_bytes + _ENVELOPE_ROOM)
    for _ in range(limit):
        code = lib.mqshm_browse(handle, row, cursor, out, copy, len(copy))
        if code == lib.MQSHM_EMPTY:
            return
        check(code)
        yield _peeked(handle, out, max_bytes)


def _peeked(handle: Any, out: Any, max_bytes: int) -> Peeked:
    name, size = ffi.new("char **"), ffi.new("uint32_t *")
    check(lib.mqshm_topic_name(handle, out.topic, name, size))
    packed = _bytes(out.headers, out.headers_size)
    return Peeked(
        topic=bytes(ffi.buffer(name[0], size[0])).decode(errors="replace"),
        data=_bytes(out.data, min(out.size, max_bytes)),
        size=out.size,
        seq=out.seq,
        id=_text(out.id, out.id_size),
        key=_text(out.key, out.key_size),
        priority=sorted(Priority, reverse=True)[out.ring],
        headers=headers.decode(packed) if packed else {},
        published_at=out.published_ns / 1e9,
        expires_at=None if out.expires_ns in (0, NEVER) else out.expires_ns / 1e9,
        attempt=out.attempt,
    )


def _bytes(pointer: Any, size: int) -> bytes:
    return bytes(ffi.buffer(pointer, size)) if pointer else b""


def _text(pointer: Any, size: int) -> str | None:
    return _bytes(pointer, size).decode(errors="replace") if pointer and size else None
