"""RabbitMQ through pika over the loopback: a classic queue that is not durable, publisher confirms, manual acks.

`single`: BlockingConnection, whose publish waits for its confirm. `batch`: SelectConnection, 100 publishes, then their
confirms; an ack of `multiple` for each 100. The consumer is pushed up to 100 messages ahead in both modes, by callback.
The protocol has no answer to an ack. The server has an epmd of its own, which would outlive it otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..harness import RunFailed, in_child
from ..shapes import Shape
from .base import Link, Receiver, Sender
from .server import Running, ServerPeer, free_port, program

QUEUE = "queue"
AHEAD = 100


def parameters(port: int) -> Any:
    import pika

    return pika.ConnectionParameters("127.0.0.1", port, heartbeat=0)


def blocking(port: int) -> Any:
    import pika

    return pika.BlockingConnection(parameters(port))


class RabbitLink(Link):
    def __init__(self, port: int, shape: Shape) -> None:
        self.port, self.shape = port, shape
        in_child(self._create)

    def _create(self) -> None:
        connection = blocking(self.port)
        connection.channel().queue_declare(QUEUE)
        connection.close()

    def _delete(self) -> None:
        connection = blocking(self.port)
        connection.channel().queue_delete(QUEUE)
        connection.close()

    def sender(self, number: int) -> Sender:
        return RabbitBatchSender(self) if self.shape.mode == "batch" else RabbitSender(self)

    def receiver(self, number: int) -> Receiver:
        return RabbitReceiver(self)

    def close(self) -> None:
        in_child(self._delete)


class RabbitSender(Sender):
    def __init__(self, link: RabbitLink) -> None:
        self.connection = blocking(link.port)
        channel = self.connection.channel()
        channel.confirm_delivery()
        self.send = lambda data: channel.basic_publish("", QUEUE, data)

    def close(self) -> None:
        self.connection.close()


class RabbitBatchSender(Sender):
    def __init__(self, link: RabbitLink) -> None:
        import pika

        self.sent = 0
        self.waiting: set[int] = set()  # tags, which count the channel's messages from 1, without their confirm
        self.channel: Any = None
        self.connection = pika.SelectConnection(
            parameters(link.port), on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened)
        )
        self.loop = self.connection.ioloop
        self.loop.start()

    def _opened(self, channel: Any) -> None:
        self.channel = channel
        channel.confirm_delivery(self._confirm, lambda _: self.loop.stop())

    def _confirm(self, frame: Any) -> None:
        method = frame.method
        if "Nack" in method.NAME:
            raise RunFailed("a message was not taken")
        if method.multiple:  # all up to its tag; one alone may come in any order
            self.waiting = {tag for tag in self.waiting if tag > method.delivery_tag}
        else:
            self.waiting.remove(method.delivery_tag)
        if not self.waiting:
            self.loop.stop()

    def send_lists(self, lists: list[list[bytes]]) -> None:
        publish = self.channel.basic_publish
        for items in lists:
            for data in items:
                publish("", QUEUE, data)
            self.waiting = set(range(self.sent + 1, self.sent + len(items) + 1))  # confirms come in the loop
            self.sent += len(items)
            self.loop.start()

    def close(self) -> None:
        self.connection.add_on_close_callback(lambda *_: self.loop.stop())
        self.connection.close()
        self.loop.start()


class RabbitReceiver(Receiver):
    def __init__(self, link: RabbitLink) -> None:
        self.connection = blocking(link.port)
        self.channel = self.connection.channel()
        self.channel.basic_qos(prefetch_count=2 * AHEAD if link.shape.mode == "batch" else AHEAD)

    def _take(self, wants: list[bytes], acked_each: int) -> None:
        """`acked_each`: after how many messages an ack goes out, for all of them."""
        total, done = len(wants), 0

        def take(channel: Any, method: Any, properties: Any, data: bytes) -> None:
            nonlocal done
            if data != wants[done]:
                raise RunFailed("a message is damaged or out of order")
            done += 1
            if done % acked_each == 0 or done == total:
                channel.basic_ack(method.delivery_tag, multiple=acked_each > 1)
                if done == total:
                    channel.stop_consuming()

        self.channel.basic_consume(QUEUE, take)
        self.channel.start_consuming()

    def take_each(self, wants: list[bytes], shape: Shape) -> None:
        self._take(wants, 1)

    def take_lists(self, wants: list[bytes], shape: Shape) -> None:
        self._take(wants, shape.batch)

    def close(self) -> None:
        self.connection.close()


class Rabbit(ServerPeer):
    name = "rabbitmq"
    needs = ("pika",)
    program, package = "rabbitmq-server", "rabbitmq-server"
    modes: Mapping[str, tuple[str, ...]] = {"workqueue": ("single", "batch")}
    port = 0

    def missing(self) -> str | None:
        return super().missing() or (None if program("epmd") else "epmd not installed (apt install erlang-base)")

    def start(self, folder: Path) -> Running:
        self.port, names, peers = free_port(), free_port(), free_port()
        (folder / "conf").write_text("loopback_users = none\nlog.console = false\n")
        (folder / "plugins").write_text("[].\n")
        env = {
            "HOME": str(folder),  # of the cookie
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"bench{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(peers),
            "RABBITMQ_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(folder / "conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        # The script in sbin asks for a user of its own; the one that it calls does not.
        inner = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        server = str(inner) if inner.exists() else program(self.program) or self.program
        return Running(folder, [[program("epmd") or "epmd"], [server]], lambda: blocking(self.port).close(), env)

    def open(self, shape: Shape) -> Link:
        if not self.server:
            raise RunFailed("no server")
        return RabbitLink(self.port, shape)


PEERS = {"rabbitmq": Rabbit()}
