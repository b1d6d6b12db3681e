"""asyncio: a loop learns through a descriptor that a message may be there.

One helper thread for each loop and broker sleeps in the core on behalf of all the tasks that wait, and writes an
eventfd that the loop watches; the loop polls nothing. The thread only says "look": the message itself is taken by the
task, so that a task that is cancelled has taken none. Thread and descriptor are there only while somebody waits.

asyncio itself is imported by who uses it: it is a third of the time that the rest of mqshm takes to import.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mqshm._native import ffi, lib
from mqshm.errors import BrokerClosed, NoRoom
from mqshm.segment import Attachment

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

    _Future = asyncio.Future
_Source = tuple[Any, Any]  # a receiver, and the core's subscription that it receives from
_IDLE_SECONDS = 1.0
_ROOM_SLICE_NS = 20_000_000


class _Watcher:
    """Wakes one loop's tasks for one broker.

    `wanted` is shared by loop and thread under `lock`; futures are touched by the loop only. The thread looks again
    only when the loop has seen what it reported, so a message that nobody takes makes no storm.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, attachment: Attachment) -> None:
        self.loop = weakref.ref(loop)
        self.attachment = attachment
        self.pid = os.getpid()
        self.lock = threading.Condition()
        self.wanted: dict[_Source, deque[_Future[None]]] = {}
        self.ready: list[_Source] = []
        self.thread: threading.Thread | None = None
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self.event)

    async def wait(self, source: _Source, timeout: float | None) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        future: _Future[None] = loop.create_future()
        with self.lock:
            if not self.wanted:
                loop.add_reader(self.event, self._look)
            self.wanted.setdefault(source, deque()).append(future)
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="mqshm-asyncio", daemon=True)
                self.thread.start()
            self.lock.notify()
        with self.attachment.use() as handle:
            lib.mqshm_ring_bell(handle)  # the thread may be asleep on other subscriptions
        try:
            await asyncio.wait((future,), timeout=timeout)
        finally:
            self._forget(source, future)

    def _forget(self, source: _Source, future: _Future[None]) -> None:
        with self.lock:
            waiting = self.wanted.get(source)
            if waiting is not None and future in waiting:
                waiting.remove(future)
            self._tidy(source)

    def _tidy(self, source: _Source) -> None:
        if source in self.wanted and not self.wanted[source]:
            del self.wanted[source]
            if not self.wanted:
                loop = self.loop()
                assert loop is not None  # it is the one that runs this
                loop.remove_reader(self.event)

    def _look(self) -> None:
        """In the loop: one task for each subscription that has something. Where more is there, the thread, which looks
        again, says so again."""
        try:
            os.eventfd_read(self.event)
        except BlockingIOError:
            return
        with self.lock:
            for source in self.ready:
                waiting = self.wanted.get(source)
                if waiting:
                    future = waiting.popleft()
                    if not future.done():
                        future.set_result(None)
                    self._tidy(source)
            self.ready = []
            self.lock.notify()

    def _run(self) -> None:
        try:
            with self.attachment.use() as handle:
                while (sources := self._next()) is not None:
                    self._sleep(handle, sources)
        except BrokerClosed:
            self._report(list(self.wanted))
        finally:
            with self.lock:
                if self.thread is threading.current_thread():
                    self.thread = None

    def _next(self) -> list[_Source] | None:
        """What to wait for; None where nobody has waited for a while, or the loop is closed."""
        with self.lock:
            while self.ready or not self.wanted:
                if not self.lock.wait(_IDLE_SECONDS) and (self._loop_is_gone() or not self.wanted):
                    self.thread = None
                    return None
            if self._loop_is_gone():
                self.thread = None
                return None
            return list(self.wanted)

    def _loop_is_gone(self) -> bool:
        loop = self.loop()
        return loop is None or loop.is_closed()

    def _sleep(self, handle: Any, sources: list[_Source]) -> None:
        subs = ffi.new("mqshm_sub_t *[]", [core for _receiver, core in sources])
        code = lib.mqshm_wait_quietly(handle, subs, len(subs), -1)
        if code == lib.MQSHM_OK and len(sources) > 1:
            sources = [each for each in sources if each[0].closed or _may_have(handle, each[1])]
        elif code in (lib.MQSHM_TIMEOUT, lib.MQSHM_INTERRUPTED):
            sources = [each for each in sources if each[0].closed]
        if sources:
            self._report(sources)  # a failure too: the task meets it when it looks

    def _report(self, sources: list[_Source]) -> None:
        with self.lock:
            self.ready = sources
        os.eventfd_write(self.event, 1)


def _may_have(handle: Any, core: Any) -> bool:
    one = ffi.new("mqshm_sub_t *[1]", [core])
    return bool(lib.mqshm_wait_quietly(handle, one, 1, 0) != lib.MQSHM_TIMEOUT)


_watchers: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Attachment, _Watcher]] = weakref.WeakKeyDictionary()


async def message_may_be_there(attachment: Attachment, receiver: Any, core: Any, timeout: float | None) -> None:
    """Until the subscription may have a message, or the time is over, or for no reason."""
    import asyncio

    loop = asyncio.get_running_loop()
    watchers = _watchers.setdefault(loop, weakref.WeakKeyDictionary())
    watcher = watchers.get(attachment)
    if watcher is None or watcher.pid != os.getpid():
        watcher = watchers[attachment] = _Watcher(loop, attachment)
    await watcher.wait((receiver, core), timeout)


async def publish_when_room(
    attachment: Attachment, publish: Callable[[], int], topic: bytes, timeout: float | None
) -> int:
    """`publish`, which does not wait, called again as there may be room. All waiting publishers of the process share
    one thread that sleeps for them."""
    ends = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return publish()
        except NoRoom:
            if ends is not None and time.monotonic() >= ends:
                raise
            import asyncio

            code = await asyncio.get_running_loop().run_in_executor(_room_thread(), _wait_room, attachment, topic)
            if code in (lib.MQSHM_FULL, lib.MQSHM_NO_MEMORY):  # configured to reject
                raise


def _wait_room(attachment: Attachment, topic: bytes) -> int:
    with attachment.use() as handle:
        out = ffi.new("mqshm_topic_t **")
        code: int = lib.mqshm_topic_open(handle, topic, len(topic), out)
        return code or int(lib.mqshm_wait_room(handle, out[0], 0, _ROOM_SLICE_NS))


_executors: dict[int, concurrent.futures.Executor] = {}


def _room_thread() -> concurrent.futures.Executor:
    """One for the process; threads do not survive a fork."""
    from concurrent.futures import ThreadPoolExecutor

    return _executors.setdefault(os.getpid(), ThreadPoolExecutor(max_workers=1, thread_name_prefix="mqshm-room"))
