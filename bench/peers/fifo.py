"""faster-fifo, without pickling: bytes in, bytes out, which is its fastest way."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..shapes import Shape
from .base import Link, Peer, Receiver, Sender

LARGE = 65536


def _as_it_is(data: bytes) -> bytes:
    return data


class FifoSender(Sender):
    def __init__(self, queue: Any) -> None:
        self.send = queue.put
        self.send_list = queue.put_many


class FifoReceiver(Receiver):
    def __init__(self, queue: Any, most: int) -> None:
        self.receive = queue.get  # waits 10 s, more than a run takes
        self.receive_list = partial(queue.get_many, True, 10.0, most)


class FifoLink(Link):
    def __init__(self, shape: Shape) -> None:
        from faster_fifo import Queue

        room = (64 << 20) if shape.size >= LARGE else (4 << 20)
        self.queue = Queue(max_size_bytes=room, loads=bytes, dumps=_as_it_is)
        self.most = shape.batch

    def sender(self, number: int) -> Sender:
        return FifoSender(self.queue)

    def receiver(self, number: int) -> Receiver:
        return FifoReceiver(self.queue, self.most)


class FasterFifo(Peer):
    name = "faster-fifo"
    needs = ("faster_fifo",)
    modes: Mapping[str, tuple[str, ...]] = {
        "pingpong": ("block",),
        "stream": ("single", "batch"),
        "pool": ("single",),
        "tail": ("single",),
        "idle": ("block",),
    }

    def open(self, shape: Shape) -> Link:
        return FifoLink(shape)


PEERS = {"faster-fifo": FasterFifo()}
