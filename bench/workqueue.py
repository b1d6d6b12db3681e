"""How many messages a second go through an acked work queue, beside brokers with a server, all in memory?

One producer, one consumer, 64 B, the order checked. Every message is confirmed to its producer before the next one (or
the next batch) is sent, and leased to its consumer, which acks it. The brokers are on the loopback or a unix socket.
"""

from __future__ import annotations

from functools import partial

from .harness import Cell
from .peers.base import Peer
from .report import Mark
from .shapes import Shape

UNIT = "messages/s"
PEERS = ["mqshm", "rabbitmq", "redis", "nats"]
SIZE = 64


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    return [
        Cell(peer.name, mode, "1x1", partial(peer.stream, Shape(mode, SIZE, acked=True)), 500)
        for peer in peers
        for mode in peer.modes.get("workqueue", ())
    ]


SERVERS = PEERS[1:]
MARKS = [
    Mark("one at a time, beside brokers", "mqshm/single/1x1", tuple(f"{name}/single/1x1" for name in SERVERS), 100.0),
    Mark("batches of 100, beside brokers", "mqshm/batch/1x1", tuple(f"{name}/batch/1x1" for name in SERVERS), 10.0),
]
