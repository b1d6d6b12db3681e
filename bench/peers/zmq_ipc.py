"""pyzmq over ipc: PUSH and PULL one to one and in the pool (it deals, round robin), XPUB and SUB for fan-out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ..harness import now
from ..shapes import Shape
from .base import Link, Peer, Receiver, Sender

MARKS = {64: 10_000, 1024: 10_000, 65536: 256}  # high-water marks
LARGE = 65536  # from here on without copies at either end
PATIENCE_MS = 200  # of a pool's consumer, before it asks whether all is over


class ZmqLink(Link):
    competes = False

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.folder = tempfile.mkdtemp(prefix="bench-zmq-")
        self.mark = MARKS.get(shape.size, 16)

    def address(self, number: int) -> str:
        return f"ipc://{self.folder}/{number}"

    def sender(self, number: int) -> Sender:
        return ZmqSender(self)

    def receiver(self, number: int) -> Receiver:
        return ZmqReceiver(self, number)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class ZmqSender(Sender):
    def __init__(self, link: ZmqLink) -> None:
        import zmq

        self.fanout, self.consumers = link.shape.fanout, link.shape.consumers
        self.context = zmq.Context()
        self.socket: Any = self.context.socket(zmq.XPUB if self.fanout else zmq.PUSH)
        self.socket.set_hwm(link.mark)
        if self.fanout:
            self.socket.setsockopt(zmq.XPUB_NODROP, 1)
            self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # tells of each subscriber, not of each topic
            self.socket.bind(link.address(0))
        else:
            for number in range(self.consumers):
                self.socket.connect(link.address(number))
        copy = link.shape.size < LARGE
        self.send = self.socket.send if copy else lambda data: self.socket.send(data, copy=False)

    def connect(self) -> None:
        if self.fanout:
            for _ in range(self.consumers):
                self.socket.recv()  # a subscription

    def close(self) -> None:
        self.context.destroy(linger=5000)


class ZmqReceiver(Receiver):
    def __init__(self, link: ZmqLink, number: int) -> None:
        import zmq

        self.again = zmq.Again
        self.context = zmq.Context()
        self.socket: Any = self.context.socket(zmq.SUB if link.shape.fanout else zmq.PULL)
        self.socket.set_hwm(link.mark)
        if link.shape.fanout:
            self.socket.connect(link.address(0))
            self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        else:
            self.socket.bind(link.address(number))
        copy = link.shape.size < LARGE
        self.receive = self.socket.recv if copy else lambda: self.socket.recv(copy=False).buffer

    def take_until(self, stop: bytes, over: Callable[[], bool], got: list[bytes]) -> int:
        receive = self.socket.recv
        self.socket.rcvtimeo = PATIENCE_MS
        last = 0
        while True:
            try:
                while True:
                    data = receive()
                    last = now()
                    got.append(data)
            except self.again:
                if over():
                    return last

    def close(self) -> None:
        self.context.destroy(linger=0)


class Zmq(Peer):
    name = "zmq"
    needs = ("zmq",)
    modes: Mapping[str, tuple[str, ...]] = {
        "pingpong": ("block",),
        "stream": ("single",),
        "pool": ("single",),
        "fanout": ("single",),
        "idle": ("block",),
    }

    def open(self, shape: Shape) -> Link:
        return ZmqLink(shape)


PEERS = {"zmq": Zmq()}
