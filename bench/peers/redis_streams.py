"""Redis streams through redis-py with hiredis, over a unix socket; nothing is written to disk.

`single`: XADD, whose answer is the confirm; XREADGROUP of one, XACK, each awaited. `batch`: pipelines of XADD without
MULTI, XREADGROUP of as many as there are up to 100, one XACK for all of them. What is acked stays in the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..harness import RunFailed, in_child
from ..shapes import Shape
from .base import Link, Receiver, Sender, check_list
from .server import Running, ServerPeer, program

STREAM, GROUP = "queue", "group"
FIELD = b"d"


def client(path: str) -> Any:
    import redis

    return redis.Redis(unix_socket_path=path)


class RedisLink(Link):
    def __init__(self, path: str, shape: Shape) -> None:
        self.path, self.shape = path, shape
        in_child(self._create)

    def _create(self) -> None:
        client(self.path).xgroup_create(STREAM, GROUP, id="0", mkstream=True)

    def sender(self, number: int) -> Sender:
        return RedisSender(self)

    def receiver(self, number: int) -> Receiver:
        return RedisReceiver(self, number)

    def close(self) -> None:
        in_child(lambda: client(self.path).delete(STREAM))


class RedisSender(Sender):
    def __init__(self, link: RedisLink) -> None:
        self.client = client(link.path)
        self.client.ping()
        xadd = self.client.xadd
        self.send = lambda data: xadd(STREAM, {FIELD: data})

    def send_lists(self, lists: list[list[bytes]]) -> None:
        pipe = self.client.pipeline(transaction=False)
        for items in lists:
            for data in items:
                pipe.xadd(STREAM, {FIELD: data})
            pipe.execute()

    def close(self) -> None:
        self.client.close()


class RedisReceiver(Receiver):
    def __init__(self, link: RedisLink, number: int) -> None:
        self.client = client(link.path)
        self.client.ping()
        self.read = partial(self.client.xreadgroup, GROUP, f"consumer-{number}", {STREAM: ">"}, block=0)

    def take_each(self, wants: list[bytes], shape: Shape) -> None:
        read, xack = self.read, self.client.xack
        for want in wants:
            [(_, [(at, fields)])] = read(count=1)
            if fields[FIELD] != want:
                raise RunFailed("a message is damaged or out of order")
            xack(STREAM, GROUP, at)

    def take_lists(self, wants: list[bytes], shape: Shape) -> None:
        read, xack = self.read, self.client.xack
        done = 0
        while done < len(wants):
            [(_, got)] = read(count=shape.batch)
            check_list([fields[FIELD] for _, fields in got], wants[done : done + len(got)], shape.size)
            xack(STREAM, GROUP, *(at for at, _ in got))
            done += len(got)

    def close(self) -> None:
        self.client.close()


class Redis(ServerPeer):
    name = "redis"
    needs = ("redis", "hiredis")
    program, package = "redis-server", "redis-server"
    modes: Mapping[str, tuple[str, ...]] = {"workqueue": ("single", "batch")}

    def start(self, folder: Path) -> Running:
        path = str(folder / "socket")
        options = {"port": "0", "unixsocket": path, "save": "", "appendonly": "no", "dir": str(folder)}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return Running(folder, [[program(self.program) or self.program, *words]], lambda: client(path).ping())

    def open(self, shape: Shape) -> Link:
        return RedisLink(str(self.server.folder / "socket"), shape)


PEERS = {"redis": Redis()}
