"""iceoryx2's Python binding: publish-subscribe of byte slices, nothing lost (RetryUntilDelivered, no overflow).

A subscriber connects at its first receive and what was sent before is lost to it, so both sides drive the handshake
before the clock starts. `single` yields between empty polls, `poll` does not, `view` copies nothing out and polls (in
the fan-out it yields).
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Mapping
from typing import Any

from ..shapes import Shape
from .base import Link, Peer, Receiver, Sender

BUFFERS = {64: 1024, 1024: 1024, 65536: 64}
numbers = itertools.count()


class IceoryxLink(Link):
    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.name = f"bench/{os.getpid()}/{next(numbers)}"
        self.buffer = BUFFERS.get(shape.size, 8)

    def service(self) -> tuple[Any, Any]:
        """The node, which must outlive its ports, and the service."""
        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        builder = node.service_builder(iceoryx2.ServiceName.new(self.name))
        service = (
            builder.publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
            .max_publishers(1)
            .max_subscribers(self.shape.consumers)
            .max_nodes(self.shape.consumers + 1)
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(self.buffer)
            .open_or_create()
        )
        return node, service

    def sender(self, number: int) -> Sender:
        return IceoryxSender(self)

    def receiver(self, number: int) -> Receiver:
        return IceoryxReceiver(self)


class IceoryxSender(Sender):
    def __init__(self, link: IceoryxLink) -> None:
        import iceoryx2

        self.node, self.service = link.service()
        self.publisher = (
            self.service.publisher_builder()
            .initial_max_slice_len(link.shape.size)
            .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        loan, move = self.publisher.loan_slice_uninit, ctypes.memmove

        def send(data: bytes) -> None:
            sample = loan(len(data))
            move(sample.payload_ptr, data, len(data))
            sample.assume_init().send()

        self.send = send

    def connect(self) -> None:
        self.publisher.update_connections()

    def close(self) -> None:
        """Its files go with its objects, not with the process."""
        del self.send
        self.publisher.delete()
        del self.publisher, self.service, self.node


class IceoryxReceiver(Receiver):
    def __init__(self, link: IceoryxLink) -> None:
        self.node, self.service = link.service()
        self.subscriber = self.service.subscriber_builder().create()
        self.held: Any = None  # the sample that the last view looks at
        size, yields = link.shape.size, link.shape.mode == "single" or link.shape.fanout
        take, copy, pause = self.subscriber.receive, ctypes.string_at, os.sched_yield

        def receive() -> bytes | None:
            sample = take()
            if sample is None:
                if yields:
                    pause()
                return None
            return copy(sample.payload_ptr, size)

        def look() -> memoryview | None:
            sample = take()
            if sample is None:
                if yields:
                    pause()
                return None
            self.held = sample
            view: memoryview = sample.payload().as_memory_view().cast("B")
            return view

        self.receive = look if link.shape.mode == "view" else receive

    def connect(self) -> None:
        self.subscriber.receive()

    def close(self) -> None:
        del self.receive, self.held
        self.subscriber.delete()
        del self.subscriber, self.service, self.node


class Iceoryx(Peer):
    name = "iceoryx2"
    needs = ("iceoryx2",)
    modes: Mapping[str, tuple[str, ...]] = {
        "pingpong": ("poll",),
        "stream": ("single", "poll", "view"),
        "fanout": ("single", "view"),
    }

    def open(self, shape: Shape) -> Link:
        return IceoryxLink(shape)


PEERS = {"iceoryx2": Iceoryx()}
