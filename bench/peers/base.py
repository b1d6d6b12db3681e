"""What a peer is: links of senders and receivers, and the loops that drive them.

A Link is opened in the parent process, before the fork; its senders and receivers are made in the processes that use
them. `receive` returns a message's bytes, or None where nothing came yet: a blocking receive does not return None, a
polling one does. A peer whose message is an object, or whose send takes a topic, has loops of its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from ..harness import RunFailed, Sample, now
from ..shapes import HEAD, WHOLE, Shape, pingpong, pool, stream

Cores = tuple[int | None, int | None]  # of the asker and the answerer; None: any


class Sender:
    send: Callable[[bytes], Any]
    send_list: Callable[[list[bytes]], Any]

    def connect(self) -> None:
        """After all processes have opened their ends, before the clock starts."""

    def send_each(self, payloads: list[bytes]) -> None:
        send = self.send
        for data in payloads:
            send(data)

    def send_lists(self, lists: list[list[bytes]]) -> None:
        send = self.send_list
        for items in lists:
            send(items)

    def flush(self) -> None:
        """After the last message: returns when what was sent is in the queue, not in this process."""

    def close(self) -> None:
        pass


class Receiver:
    receive: Callable[[], Any]
    receive_list: Callable[[], list[bytes]]

    def connect(self) -> None:
        pass

    def take_each(self, wants: list[bytes], shape: Shape) -> None:
        receive, size = self.receive, shape.size
        if size <= WHOLE:
            for want in wants:
                while (got := receive()) is None:
                    pass
                if got != want:
                    raise RunFailed("a message is damaged or out of order")
            return
        for want in wants:
            while (got := receive()) is None:
                pass
            if len(got) != size or got[:HEAD] != want:
                raise RunFailed("a message is damaged or out of order")

    def take_lists(self, wants: list[bytes], shape: Shape) -> None:
        receive_list = self.receive_list
        done = 0
        while done < len(wants):
            got = receive_list()
            check_list(got, wants[done : done + len(got)], shape.size)
            done += len(got)

    def take_until(self, stop: bytes, over: Callable[[], bool], got: list[bytes]) -> int:
        """Fills `got` until the message `stop` comes, or nothing does and all is `over`. When the last one came."""
        receive = self.receive
        last = 0
        while True:
            if (data := receive()) is None:
                if over():
                    return last
                continue
            if data == stop:
                return last
            last = now()
            got.append(data)

    def close(self) -> None:
        pass


def check_list(got: list[bytes], wants: list[bytes], size: int) -> None:
    if size <= WHOLE:
        if got != wants:
            raise RunFailed("a message is damaged or out of order")
        return
    if len(got) != len(wants):
        raise RunFailed("more messages than were sent")
    for data, want in zip(got, wants, strict=True):
        if len(data) != size or data[:HEAD] != want:
            raise RunFailed("a message is damaged or out of order")


class Link:
    competes = True  # its consumers share one queue; False: each producer deals its messages out

    def sender(self, number: int) -> Sender:
        raise NotImplementedError

    def receiver(self, number: int) -> Receiver:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Peer:
    name: str
    needs: tuple[str, ...] = ()  # modules
    modes: Mapping[str, tuple[str, ...]]  # per question

    def missing(self) -> str | None:
        """Why it cannot take part here."""
        absent = [module for module in self.needs if importlib.util.find_spec(module) is None]
        return f"{', '.join(absent)} not installed" if absent else None

    def open(self, shape: Shape) -> Link:
        raise NotImplementedError

    def stream(self, shape: Shape, count: int) -> Sample:
        return stream(self.open, shape, count)

    def pool(self, shape: Shape, count: int) -> Sample:
        return pool(self.open, shape, count)

    def pingpong(self, shape: Shape, count: int, cores: Cores, hog: int | None = None) -> Sample:
        return pingpong(self.open, shape, count, cores, hog)
