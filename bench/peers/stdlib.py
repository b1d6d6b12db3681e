"""multiprocessing.Queue and multiprocessing.Pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..harness import FORK
from ..shapes import Shape
from .base import Link, Peer, Receiver, Sender


class QueueSender(Sender):
    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.send = queue.put

    def flush(self) -> None:
        self.queue.close()
        self.queue.join_thread()


class QueueReceiver(Receiver):
    def __init__(self, queue: Any) -> None:
        self.receive = queue.get


class QueueLink(Link):
    def __init__(self, shape: Shape) -> None:
        self.queue = FORK.Queue()

    def sender(self, number: int) -> Sender:
        return QueueSender(self.queue)

    def receiver(self, number: int) -> Receiver:
        return QueueReceiver(self.queue)


class Queue(Peer):
    name = "mp.Queue"
    modes: Mapping[str, tuple[str, ...]] = {
        "pingpong": ("block",),
        "stream": ("single",),
        "pool": ("single",),
        "tail": ("single",),
        "idle": ("block",),
    }

    def open(self, shape: Shape) -> Link:
        return QueueLink(shape)


class PipeSender(Sender):
    def __init__(self, ends: list[Any]) -> None:
        self.ends = [end.send_bytes for end in ends]
        self.send = self.ends[0] if len(ends) == 1 else self._send_to_all

    def _send_to_all(self, data: bytes) -> None:
        for send in self.ends:
            send(data)


class PipeReceiver(Receiver):
    def __init__(self, end: Any) -> None:
        self.receive = end.recv_bytes


class PipeLink(Link):
    def __init__(self, shape: Shape) -> None:
        self.pipes = [FORK.Pipe(duplex=False) for _ in range(shape.consumers)]

    def sender(self, number: int) -> Sender:
        return PipeSender([writer for _, writer in self.pipes])

    def receiver(self, number: int) -> Receiver:
        return PipeReceiver(self.pipes[number][0])

    def close(self) -> None:
        for reader, writer in self.pipes:
            reader.close()
            writer.close()


class Pipe(Peer):
    name = "mp.Pipe"
    modes: Mapping[str, tuple[str, ...]] = {
        "pingpong": ("block",),
        "stream": ("single",),
        "fanout": ("single",),
        "idle": ("block",),
    }

    def open(self, shape: Shape) -> Link:
        return PipeLink(shape)


PEERS = {"mp.Queue": Queue(), "mp.Pipe": Pipe()}
