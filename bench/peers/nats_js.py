"""NATS JetStream, stored in memory, through nats-py over the loopback; explicit acks.

`single`: a publish awaits its ack of the stream; messages are pushed to the consumer, which awaits the answer to the
ack of each. `batch`: 100 publishes, then their acks of the stream; a pull of up to 100, each acked, not awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from ..harness import RunFailed, in_child
from ..shapes import Shape
from .base import Link, Receiver, Sender, check_list
from .server import Running, ServerPeer, free_port, program

STREAM, SUBJECT, GROUP = "QUEUE", "queue", "group"
PULL_SECONDS = 20.0


class Client:
    """A connection, with the loop that runs it: between two calls nothing of it runs."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.connection, self.js = self.run(self._open(url))

    async def _open(self, url: str) -> tuple[Any, Any]:
        import nats

        connection = await nats.connect(url, allow_reconnect=False)
        return connection, connection.jetstream()

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self.connection.close())
        self.loop.close()


def with_client(url: str, work: Callable[[Any], Awaitable[Any]]) -> None:
    """Does `work` with a JetStream context, in a process of its own."""

    def whole() -> None:
        client = Client(url)
        client.run(work(client.js))
        client.close()

    in_child(whole)


class NatsLink(Link):
    def __init__(self, url: str, shape: Shape) -> None:
        self.url, self.shape = url, shape
        with_client(url, self._create)

    async def _create(self, js: Any) -> None:
        from nats.js.api import RetentionPolicy, StorageType

        await js.add_stream(
            name=STREAM, subjects=[SUBJECT], storage=StorageType.MEMORY, retention=RetentionPolicy.WORK_QUEUE
        )

    def sender(self, number: int) -> Sender:
        return NatsSender(self)

    def receiver(self, number: int) -> Receiver:
        return NatsReceiver(self)

    def close(self) -> None:
        with_client(self.url, lambda js: js.delete_stream(STREAM))


class NatsSender(Sender):
    def __init__(self, link: NatsLink) -> None:
        self.client = Client(link.url)

    def send_each(self, payloads: list[bytes]) -> None:
        async def work() -> None:
            publish = self.client.js.publish
            for data in payloads:
                await publish(SUBJECT, data)

        self.client.run(work())

    def send_lists(self, lists: list[list[bytes]]) -> None:
        async def work() -> None:
            publish = self.client.js.publish_async
            for items in lists:
                for confirm in [await publish(SUBJECT, data) for data in items]:
                    await confirm

        self.client.run(work())

    def close(self) -> None:
        self.client.close()


class NatsReceiver(Receiver):
    def __init__(self, link: NatsLink) -> None:
        self.client = Client(link.url)
        self.sub = self.client.run(self._subscribe(link.shape.mode == "batch"))

    async def _subscribe(self, pulls: bool) -> Any:
        if pulls:
            return await self.client.js.pull_subscribe(SUBJECT, durable=GROUP)
        return await self.client.js.subscribe(SUBJECT, durable=GROUP, manual_ack=True)

    def take_each(self, wants: list[bytes], shape: Shape) -> None:
        async def work() -> None:
            take = self.sub.next_msg
            for want in wants:
                message = await take(timeout=None)
                if message.data != want:
                    raise RunFailed("a message is damaged or out of order")
                await message.ack_sync()

        self.client.run(work())

    def take_lists(self, wants: list[bytes], shape: Shape) -> None:
        async def work() -> None:
            done = 0
            while done < len(wants):
                got = await self.sub.fetch(min(shape.batch, len(wants) - done), timeout=PULL_SECONDS)
                check_list([message.data for message in got], wants[done : done + len(got)], shape.size)
                for message in got:
                    await message.ack()
                done += len(got)

        self.client.run(work())

    def close(self) -> None:
        self.client.close()


class Nats(ServerPeer):
    name = "nats"
    needs = ("nats",)
    program, package = "nats-server", "nats-server"
    modes: Mapping[str, tuple[str, ...]] = {"workqueue": ("single", "batch")}
    url = ""

    def start(self, folder: Path) -> Running:
        port = free_port()
        self.url = f"nats://127.0.0.1:{port}"
        words = ["--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", str(folder)]

        async def look(js: Any) -> Any:
            return await js.account_info()

        def ready() -> None:
            client = Client(self.url)
            client.run(look(client.js))

        return Running(folder, [[program(self.program) or self.program, *words]], ready)

    def open(self, shape: Shape) -> Link:
        if not self.server:
            raise RunFailed("no server")
        return NatsLink(self.url, shape)


PEERS = {"nats": Nats()}
