"""A peer with a server of its own: private, in memory, on the loopback or a unix socket, from the first run to the end.

It starts when its first link is opened, in a temporary folder, under a keeper that ends it when this process ends, in
whatever way; see keeper.py. What was measured before does not share the machine with it, what comes after does: idle.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..harness import RunFailed, in_child
from .base import Peer

PATIENCE = 60.0  # seconds; RabbitMQ needs 5 to 20
SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/rabbitmq/bin")  # not on every user's path


def program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A server under its keeper, ready. `ready` is tried in a process of its own until it raises nothing."""

    def __init__(
        self, folder: Path, commands: list[list[str]], ready: Callable[[], object], env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        keeper = Path(__file__).with_name("keeper.py")
        self.keeper = subprocess.Popen(
            [sys.executable, keeper, folder, json.dumps(commands)],
            stdin=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # Ctrl-C is not for it: the end of its input is
        )
        atexit.register(self.stop)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                in_child(ready)
                return
            except RunFailed as failure:
                if self.keeper.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RunFailed(f"does not start: {str(failure).strip().splitlines()[-1]}") from None
                time.sleep(0.1)

    def stop(self) -> None:
        atexit.unregister(self.stop)
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper.wait()


class ServerPeer(Peer):
    """Its links ask for the server; it is started once, and not again where it did not start."""

    program: str
    package: str
    _running: Running | None = None
    _trouble: str = ""

    def missing(self) -> str | None:
        if program(self.program) is None:
            return f"{self.program} not installed (apt install {self.package})"
        return super().missing()

    def start(self, folder: Path) -> Running:
        raise NotImplementedError

    @property
    def server(self) -> Running:
        if self._trouble:
            raise RunFailed(self._trouble)
        if self._running is None:
            try:
                self._running = self.start(Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-")))
            except RunFailed as failure:
                self._trouble = str(failure)
                raise
        return self._running
