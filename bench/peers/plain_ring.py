"""A plain ring over multiprocessing.shared_memory: one producer, one consumer, pure Python.

What anybody would write in an hour, and faster than nearly every library: the bar to beat. It knows no crash, no second
consumer, no waiting, and relies on a processor that keeps the order of stores (x86-64).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from multiprocessing.shared_memory import SharedMemory

from ..shapes import Shape
from .base import Link, Peer, Receiver, Sender

LINE = 128
TAIL, HEAD = 0, LINE // 8  # indexes of 8-byte words: messages written, messages read
SLOTS = {64: 4096, 1024: 4096, 65536: 64}


class RingLink(Link):
    def __init__(self, shape: Shape) -> None:
        self.slots = SLOTS.get(shape.size, 8)
        self.step = shape.size + 8  # the length, then the payload
        self.polls = shape.mode == "poll"
        self.memory = SharedMemory(create=True, size=2 * LINE + self.slots * self.step)
        assert self.memory.buf is not None
        self.buf = self.memory.buf
        self.buf[: 2 * LINE] = bytes(2 * LINE)

    def sender(self, number: int) -> Sender:
        return RingSender(self)

    def receiver(self, number: int) -> Receiver:
        return RingReceiver(self)

    def close(self) -> None:
        self.memory.close()
        self.memory.unlink()


class RingSender(Sender):
    def __init__(self, link: RingLink) -> None:
        buf, slots, step = link.buf, link.slots, link.step
        words = buf[: 2 * LINE].cast("Q")
        written = head = 0

        def send(data: bytes) -> None:
            nonlocal written, head
            while written - head >= slots:
                head = words[HEAD]
                if written - head >= slots:
                    os.sched_yield()
            at = 2 * LINE + written % slots * step
            size = len(data)
            buf[at : at + 8] = size.to_bytes(8, "little")
            buf[at + 8 : at + 8 + size] = data
            written += 1
            words[TAIL] = written

        self.send = send


class RingReceiver(Receiver):
    def __init__(self, link: RingLink) -> None:
        buf, slots, step, polls = link.buf, link.slots, link.step, link.polls
        words = buf[: 2 * LINE].cast("Q")
        read = tail = 0

        def receive() -> bytes | None:
            nonlocal read, tail
            if read == tail:
                tail = words[TAIL]
                if read == tail:
                    if not polls:
                        os.sched_yield()
                    return None
            at = 2 * LINE + read % slots * step
            size = int.from_bytes(buf[at : at + 8], "little")
            data = bytes(buf[at + 8 : at + 8 + size])
            read += 1
            words[HEAD] = read
            return data

        self.receive = receive


class PlainRing(Peer):
    name = "plain-ring"
    modes: Mapping[str, tuple[str, ...]] = {"pingpong": ("poll",), "stream": ("single",)}

    def missing(self) -> str | None:
        return None if platform.machine() in ("x86_64", "AMD64") else "relies on x86-64's order of stores"

    def open(self, shape: Shape) -> Link:
        return RingLink(shape)


PEERS = {"plain-ring": PlainRing()}
