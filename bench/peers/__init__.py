"""The peers, by name. A module is loaded when its peer is asked for."""

from __future__ import annotations

from importlib import import_module

from .base import Peer

MODULES = {
    "mqshm": "mqshm",
    "mqshm-cffi": "mqshm",
    "mqshm-nospin": "mqshm",
    "mqshm-other": "mqshm",
    "mp.Queue": "stdlib",
    "mp.Pipe": "stdlib",
    "plain-ring": "plain_ring",
    "faster-fifo": "fifo",
    "zmq": "zmq_ipc",
    "iceoryx2": "iceoryx",
    "boost": "boost",
    "futex": "futex",
    "posix-mq": "posix_mq",
    "rabbitmq": "rabbit",
    "redis": "redis_streams",
    "nats": "nats_js",
}


def peer(name: str) -> Peer:
    found: Peer = import_module(f".{MODULES[name]}", __name__).PEERS[name]
    return found


def present(names: list[str]) -> tuple[list[Peer], list[str]]:
    """Those that can take part, and a line for each that cannot."""
    here, lines = [], []
    for name in names:
        reason = peer(name).missing()
        if reason:
            lines.append(f"{name}: skipped: {reason}")
        else:
            here.append(peer(name))
    return here, lines
