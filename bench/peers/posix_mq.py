"""The kernel's message queue through posix_ipc: it has priorities, and room as the system allows: for 10 by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..harness import Member, Sample, gate, in_child, now, run_group
from ..shapes import WHOLE, check_levels, payloads
from .base import Peer
from .mqshm import new_name

LIMIT = Path("/proc/sys/fs/mqueue/msg_max")


class PosixQueue(Peer):
    name = "posix-mq"
    needs = ("posix_ipc",)
    modes: Mapping[str, tuple[str, ...]] = {"priorities": ("five",)}

    def missing(self) -> str | None:
        return super().missing() or (None if LIMIT.exists() else "this kernel has no message queues")

    def priorities(self, levels: int, count: int) -> Sample:
        name = "/" + new_name()
        meet = gate(2)

        def create() -> None:
            import posix_ipc

            room = int(LIMIT.read_text())
            posix_ipc.MessageQueue(name, posix_ipc.O_CREX, max_messages=room, max_message_size=WHOLE).close()

        def produce() -> int:
            import posix_ipc

            sending = [(data, at % levels) for at, data in enumerate(payloads(WHOLE, count))]
            queue = posix_ipc.MessageQueue(name)
            send = queue.send
            meet.wait()
            start = now()
            for data, priority in sending:
                send(data, None, priority)
            return start

        def consume() -> int:
            import posix_ipc

            queue = posix_ipc.MessageQueue(name)
            receive = queue.receive
            got = []
            meet.wait()
            for _ in range(count):
                got.append(receive()[0])
            end = now()
            check_levels(got, levels)
            return end

        def remove() -> None:
            import posix_ipc

            posix_ipc.unlink_message_queue(name)

        in_child(create)
        try:
            start, end = run_group([Member(produce), Member(consume)])
        finally:
            in_child(remove)
        seconds = (end - start) / 1e9
        return Sample(count / seconds, seconds)


PEERS = {"posix-mq": PosixQueue()}
