"""What the processes of a run do to a broker: its groups, topics and payloads. No I/O."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Any

from mqshm import AckPolicy

MARK = 16
"""Bytes at the start of a payload that name it; a shorter one has no room for its name."""
LONGEST = 400_000
_noise = random.Random(0).randbytes(LONGEST + (1 << 16))


@dataclass(frozen=True)
class Group:
    """A subscription that every process knows. What matters to the checker besides the patterns is in the history."""

    patterns: tuple[str, ...]
    ack: AckPolicy = AckPolicy.REQUIRED
    buffer_size: int = 256
    overflow: str = "block"
    max_attempts: int = 0
    ack_timeout: float | None = None
    backoff: tuple[float, float] = (0.0, 0.02)

    def options(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("ack", "buffer_size", "overflow", "max_attempts", "backoff")}
        return options if self.ack_timeout is None else {**options, "ack_timeout": self.ack_timeout}

    @property
    def held_at_most(self) -> int:
        """By one process, so that what all hold together leaves most of the buffer to the traffic."""
        return max(1, self.buffer_size // 32)


GROUPS = {
    "lone": Group(("lone",), buffer_size=64),  # one receiver: small payloads go in the slot
    "lone-timed": Group(("alone.timed",), AckPolicy.TIMEOUT, buffer_size=64, ack_timeout=0.2),
    "billing": Group(("orders.*",)),
    "audit": Group(("orders.#", "jobs.b"), buffer_size=512, overflow="reject"),
    "jobs": Group(("jobs.*",), buffer_size=128),
    "leases": Group(("jobs.*", "orders.eu.big"), AckPolicy.TIMEOUT, ack_timeout=0.25),
    "fire": Group(("events.#",), AckPolicy.NONE, buffer_size=512),
    "latest": Group(("events.#",), buffer_size=32, overflow="drop_oldest"),
    "newest": Group(("metrics.*",), buffer_size=32, overflow="drop_new"),
    "lowest": Group(("metrics.*", "events.in"), buffer_size=32, overflow="drop_lowest"),
    "strict": Group(("jobs.b", "metrics.cpu"), max_attempts=3),
}
DEDUP_WINDOW = 1.0
"""Seconds. All ids are different; a table of them turns several times in a shift."""
DEAD = "given.up"
"""Dead-letter topic, which none of the patterns matches."""
TOPICS = ("lone", "lone", "alone.timed", "orders.eu", "orders.us", "orders.eu.big", "jobs.a", "jobs.b", "events",
          "events.in", "metrics.cpu", "metrics.disk", "nobody.listens")  # fmt: skip
PRIVATE_PATTERNS = (
    ("orders.*",),
    ("orders.#", "lone"),
    ("jobs.a",),
    ("events.#", "metrics.*", "alone.*"),
    ("events.*", "metrics.cpu"),
)
PRIORITIES = (0, 10, 20, 20, 20, 30, 40)
_SIZES = ((0, 15), (16, 72), (16, 72), (16, 72), (73, 2000), (2000, 20_000), (20_000, LONGEST))


def size(dice: random.Random, large: float = 1.0) -> int:
    """Bytes of a payload: in the slot, in a block, or large; `large` is how often the last are taken."""
    least, most = dice.choice(_SIZES)
    if least >= 2000 and dice.random() >= large:
        least, most = 16, 72
    return dice.randint(least, most)


def payload(uid: str, nbytes: int) -> bytes:
    """The one payload of this name and size."""
    start = zlib.crc32(uid.encode()) & 0xFFFF
    if nbytes < MARK:
        return _noise[start : start + nbytes]
    return uid.encode().ljust(MARK, b" ") + _noise[start : start + nbytes - MARK]


def named(data: bytes | memoryview) -> str | None:
    """The name that a payload carries, whatever it is."""
    return bytes(data[:MARK]).decode(errors="replace").rstrip() if len(data) >= MARK else None


def mark(id: str | None, key: str | None, headers: dict[str, Any]) -> int:
    """What goes with a payload, as one number."""
    return zlib.crc32(repr((id, key, sorted(headers.items()))).encode()) if id or key or headers else 0


def seen(message: Any, data: bytes | memoryview | None) -> list[Any]:
    """What the history says of a message that was received; without data where its lease ended before it was read."""
    uid = size = crc = None
    if data is not None:
        uid, size, crc = named(data), len(data), zlib.crc32(data)
    marked = mark(message.id, message.key, message.headers)
    return [uid, message.seq, message.topic, int(message.priority), size, crc, marked, message.attempt]
