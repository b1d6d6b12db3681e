"""mqshm, through its public API. Loaded only in the processes of a run, so that each run chooses its own binding.

`single` and `batch` take `msg.data`, `poll` calls receive_nowait in a loop, `view` the same with `msg.view` (in the
fan-out it waits), `acked` leases each message and acks it. The group is made before the first process attaches.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ..harness import RunFailed, in_child, now
from ..shapes import HEAD, WHOLE, Shape
from .base import Link, Peer, Receiver, Sender, check_list

BUFFERS = {64: 1024, 1024: 1024, 65536: 64}
TOPIC = "bench.stream"
OTHER = os.environ.get("MQSHM_OTHER", "")  # a checkout of another build, built in place
numbers = itertools.count()


def new_name() -> str:
    return f"bench-{os.getpid()}-{next(numbers)}"


def use(tree: str) -> None:
    """What this process, and those that it starts, import as mqshm: of `tree`, or, without one, the installed one."""
    if tree and tree not in sys.path:
        sys.path.insert(0, tree)
        os.environ["PYTHONPATH"] = tree


def destroy(name: str, tree: str = "") -> None:
    """Removes the broker, if it is there."""

    def work() -> None:
        use(tree)
        import mqshm

        with suppress(mqshm.BrokerNotFound):
            mqshm.destroy(name)

    in_child(work)


class MqshmLink(Link):
    def __init__(self, shape: Shape, front: bool, spin: bool, tree: str) -> None:
        self.shape, self.front, self.spin, self.tree = shape, front, spin, tree
        self.name = new_name()
        try:
            in_child(self._create)
        except RunFailed:
            self.close()
            raise

    def _create(self) -> None:
        use(self.tree)
        import mqshm

        config = mqshm.Config() if self.spin else mqshm.Config(spin=0.0)
        broker = mqshm.connect(self.name, config=config)
        policy = mqshm.AckPolicy.REQUIRED if self.shape.leased else mqshm.AckPolicy.NONE
        room = BUFFERS.get(self.shape.size, 8)
        groups = self.shape.consumers if self.shape.fanout else 1
        for number in range(groups):
            broker.create_group(f"group-{number}", TOPIC, ack=policy, buffer_size=room)
        broker.close()

    def attach(self) -> Any:
        os.environ["MQSHM_FRONT"] = "1" if self.front else "0"
        use(self.tree)
        import mqshm

        return mqshm.connect(self.name, create=False)

    def sender(self, number: int) -> Sender:
        return MqshmSender(self)

    def receiver(self, number: int) -> Receiver:
        return MqshmReceiver(self, number if self.shape.fanout else 0)

    def close(self) -> None:
        destroy(self.name, self.tree)


class MqshmSender(Sender):
    def __init__(self, link: MqshmLink) -> None:
        self.broker = link.attach()
        self.send = lambda data: self.broker.publish(TOPIC, data)

    def send_each(self, payloads: list[bytes]) -> None:
        publish = self.broker.publish
        for data in payloads:
            publish(TOPIC, data)

    def send_lists(self, lists: list[list[bytes]]) -> None:
        publish_batch = self.broker.publish_batch
        for items in lists:
            publish_batch(TOPIC, items)

    def close(self) -> None:
        self.broker.close()


class MqshmReceiver(Receiver):
    def __init__(self, link: MqshmLink, group: int) -> None:
        self.broker = link.attach()
        import mqshm

        self.mode = link.shape.mode
        self.leased = link.shape.leased
        policy = mqshm.AckPolicy.REQUIRED if self.leased else mqshm.AckPolicy.NONE
        self.sub = self.broker.subscribe(TOPIC, group=f"group-{group}", ack=policy)
        polls = self.mode in ("poll", "view") and not link.shape.fanout  # eight that poll starve the one that sends
        self.take = self.sub.receive_nowait if polls else self.sub.receive

    def receive(self) -> bytes | None:
        message = self.take()
        return None if message is None else message.data

    def take_each(self, wants: list[bytes], shape: Shape) -> None:
        take, size = self.take, shape.size
        if shape.mode == "view":
            for want in wants:
                while (message := take()) is None:
                    pass
                view = message.view
                if len(view) != size or view[:HEAD] != want:
                    raise RunFailed("a message is damaged or out of order")
                del view, message
        elif self.leased:
            for want in wants:
                message = take()
                if message.data != want:
                    raise RunFailed("a message is damaged or out of order")
                message.ack()
        elif size <= WHOLE:
            for want in wants:
                while (message := take()) is None:
                    pass
                if message.data != want:
                    raise RunFailed("a message is damaged or out of order")
        else:
            for want in wants:
                while (message := take()) is None:
                    pass
                data = message.data
                if len(data) != size or data[:HEAD] != want:
                    raise RunFailed("a message is damaged or out of order")

    def take_lists(self, wants: list[bytes], shape: Shape) -> None:
        receive_batch, most = self.sub.receive_batch, shape.batch
        done = 0
        while done < len(wants):
            messages = receive_batch(most)
            got = [message.data for message in messages]
            check_list(got, wants[done : done + len(got)], shape.size)
            if self.leased:
                self.sub.ack_batch(messages)
            done += len(got)

    def take_until(self, stop: bytes, over: Callable[[], bool], got: list[bytes]) -> int:
        take, acked = self.take, self.leased
        last = 0
        while True:
            message = take()
            data = message.data
            if acked:
                message.ack()
            if data == stop:
                return last
            last = now()
            got.append(data)

    def close(self) -> None:
        self.broker.close()


class Mqshm(Peer):
    def __init__(
        self, name: str, modes: dict[str, tuple[str, ...]], front: bool = True, spin: bool = True, tree: str = ""
    ) -> None:
        self.name, self.modes, self.front, self.spin, self.tree = name, modes, front, spin, tree

    def missing(self) -> str | None:
        package = PathFinder.find_spec(
            "mqshm", [self.tree] if self.tree else None
        )  # looked for, not loaded: that is the business of the runs
        places = package.submodule_search_locations if package else None
        if not places or PathFinder.find_spec("mqshm._core", places) is None:
            return "not built: pip install -e ."
        if self.front and PathFinder.find_spec("mqshm._front", places) is None:
            return "its front is not built"
        return None

    def open(self, shape: Shape) -> Link:
        return self.link(shape)

    def link(self, shape: Shape) -> MqshmLink:
        return MqshmLink(shape, self.front, self.spin, self.tree)


PEERS = {
    "mqshm": Mqshm(
        "mqshm",
        {
            "pingpong": ("poll", "block"),
            "stream": ("single", "batch", "view"),
            "pool": ("acked", "single"),
            "fanout": ("single", "view"),
            "tail": ("single",),
            "idle": ("block",),
            "workqueue": ("single", "batch"),
        },
    ),
    "mqshm-cffi": Mqshm(
        "mqshm-cffi", {"pingpong": ("poll",), "stream": ("single", "batch"), "pool": ("acked",)}, front=False
    ),
    "mqshm-nospin": Mqshm("mqshm-nospin", {"pingpong": ("block",)}, spin=False),
    "mqshm-other": Mqshm("mqshm-other", {}, tree=str(Path(OTHER).resolve()) if OTHER else ""),
}
