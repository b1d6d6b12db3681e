"""The shared memory of a broker by its name: made, found, shared within the process, removed.

A segment gets its name only once it is whole: it is made under a temporary one, formatted, and then linked; so nobody
ever attaches to half a segment, and of several that make one at once the first wins and the others attach.

The kernel says that a process lives by a lock on the segment's file, and forgets the lock when the process closes *any*
descriptor of that file. So a process opens a broker's file once, whatever number of Brokers it makes, and closes it
when the last of them is gone: that is what `Attachment` counts.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import stat
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import posix_ipc

from mqshm import _native
from mqshm._native import check, ffi, lib
from mqshm.config import Config
from mqshm.errors import (
    BrokerClosed,
    BrokerNotFound,
    ForkedHandle,
    InvalidConfig,
    MQError,
    SegmentCorrupt,
    Timeout,
    TooManyPeers,
    VersionMismatch,
)

_DIRECTORY = Path("/dev/shm")
_PREFIX = "mqshm."
_TEMPORARY = ".tmp"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_temporary_number = itertools.count()
_PATIENCE = 5.0
_PROGRAMS = {lib.MQSHM_SUPERVISOR: b"mqshm supervisor", lib.MQSHM_FOREGROUND: b"mqshm up"}
"""What people see in the place of a program's name."""


class Attachment:
    """This process's view of one broker, shared by all that use it. It ends when nobody does any more.

    Users are the fronts of Brokers, which their subscriptions and messages keep, and whatever is in `use`.
    """

    def __init__(self, name: str, key: tuple[int, int], fd: int, handle: Any) -> None:
        self.name = name
        self.key = key
        self.descriptors = [fd]
        self.handle = handle
        self._memory = ffi.gc(handle, lib.mqshm_abandon)  # of the handle itself: fronts may come when it was closed
        self.pid = os.getpid()
        self.users = 0
        self.fronts: weakref.WeakKeyDictionary[Any, weakref.finalize[..., Any]] = weakref.WeakKeyDictionary()
        self.private: weakref.WeakSet[Any] = weakref.WeakSet()
        """Receivers of subscriptions that end with their process."""

    def hold(self) -> Attachment:
        with _registry.lock:
            if self.handle is None:
                raise BrokerClosed(f"broker {self.name!r} was closed in this process: connect again")
            self.users += 1
        return self

    def release(self) -> None:
        with _registry.lock:
            self.users -= 1
            if self.users == 0 and self.handle is not None:
                self._end()

    def add(self, front: Any) -> None:
        """One use is the front's from here on: until it is told to leave, or nothing refers to it any more."""
        self.fronts[front] = end = weakref.finalize(front, self.release)
        end.atexit = False  # threads may be inside; _leave_all knows how to wait for them

    def leave(self, front: Any) -> None:
        end = self.fronts.get(front)
        if end is None or not end.detach():
            return
        front.close(self.release)
        with suppress(BrokerClosed):
            self.ring()

    def ring(self) -> None:
        """Threads of this process that wait look around. A child that has not attached has none."""
        if self.pid == os.getpid():
            with self.use() as handle:
                lib.mqshm_ring_bell(handle)

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The core's handle, which stays until the block is left."""
        self.hold()
        try:
            if self.pid != os.getpid():
                self.reattach()
            yield self.handle
        except MQError as error:
            kind = _native.trouble(error)
            if kind is not None:
                lib.mqshm_count_trouble(self.handle, kind)
            raise
        finally:
            self.release()

    def reattach(self) -> None:
        """After a fork: the child becomes a process of its own to the broker, over the mapping that it inherited."""
        with _registry.lock:
            if self.pid == os.getpid():
                return
            code = lib.mqshm_after_fork(self.handle)
            if code != lib.MQSHM_OK:
                raise ForkedHandle(
                    f"broker {self.name!r} cannot be used in this child: {_native.reason()}; connect again"
                )
            self.pid = os.getpid()
            for receiver in self.private:
                receiver.close(lib.MQSHM_FORKED)

    def _end(self) -> None:
        _registry.attachments.pop(self.key, None)
        for front in list(self.fronts):
            front.abandon()
        handle, self.handle = self.handle, None
        lib.mqshm_close(handle)
        for fd in self.descriptors:
            os.close(fd)


class _Registry:
    """The attachments of this process, by device and inode of their file."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.attachments: dict[tuple[int, int], Attachment] = {}


_registry = _Registry()


def _new_lock() -> None:
    """In a forked child: a thread of the parent that held the lock is not here to let it go."""
    _registry.lock = threading.RLock()


os.register_at_fork(after_in_child=_new_lock)


def _leave_all() -> None:
    """An orderly end: what this process holds is delivered again at once, not when somebody finds it dead."""
    for attachment in list(_registry.attachments.values()):
        for front in list(attachment.fronts):
            attachment.leave(front)


atexit.register(_leave_all)


def attach(name: str, create: bool, config: Config, mode: int, role: int = lib.MQSHM_USER) -> Attachment:
    """Attaches to the broker, made first where it is not there; one user is counted already."""
    path = _path(name)
    _remove_stale()
    ends = time.monotonic() + _PATIENCE
    with _registry.lock:
        while True:
            try:
                found = _regular(path)
            except FileNotFoundError:
                if not create:
                    raise BrokerNotFound(
                        f"no broker {name!r} on this machine: `mqshm ls` shows those that are there"
                    ) from None
                attachment = _create(name, config, mode, role)
            else:
                shared = _registry.attachments.get((found.st_dev, found.st_ino))
                if shared is None:
                    attachment = _open(name, role)
                else:
                    with suppress(BrokerClosed):  # its last user was collected just now: look again
                        return shared.hold()
                    attachment = None
            if attachment is not None:
                return attachment
            if time.monotonic() > ends:
                raise Timeout(
                    f"broker {name!r} has ended, and the process that removes it does not go on: is it stopped? "
                    f"`mqshm rm {name}` removes it"
                )


def destroy(name: str) -> None:
    """Removes the broker's name, and its memory as soon as no process is attached any more.

    Processes that are attached go on among themselves; who connects from now on gets a new broker.
    """
    _path(name)
    try:
        posix_ipc.unlink_shared_memory(_shm_name(name))
    except posix_ipc.ExistentialError:
        raise BrokerNotFound(f"no broker {name!r} on this machine: nothing to remove") from None
    except posix_ipc.PermissionsError:
        raise _not_allowed(name) from None
    except OSError as error:
        raise OSError(error.errno, f"broker {name!r}: its file cannot be removed: {error.strerror}") from None


def list_brokers() -> list[str]:
    """The names of the brokers on this machine, in order."""
    _remove_stale()
    return sorted(
        path.name[len(_PREFIX) :] for path in _DIRECTORY.glob(f"{_PREFIX}*") if not path.name.endswith(_TEMPORARY)
    )


def _create(name: str, config: Config, mode: int, role: int) -> Attachment | None:
    """None where somebody else was faster, or removed the temporary file."""
    temporary = f"{name}.{os.getpid()}.{next(_temporary_number)}{_TEMPORARY}"
    memory = posix_ipc.SharedMemory(_shm_name(temporary), posix_ipc.O_CREX, mode=mode)
    linked = False
    try:
        os.fchmod(memory.fd, mode)  # what was asked for, whatever the umask
        check(lib.mqshm_format(memory.fd, 0, _native.config_to_core(config)))
        try:
            os.link(_DIRECTORY / (_PREFIX + temporary), _path(name))
            linked = True
        except (FileExistsError, FileNotFoundError):
            return None
    finally:
        with suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(_shm_name(temporary))
        if not linked:
            os.close(memory.fd)
    return _attach_descriptor(name, memory.fd, role)


def _open(name: str, role: int) -> Attachment | None:
    """None where the broker has just gone."""
    try:
        memory = posix_ipc.SharedMemory(_shm_name(name))
    except posix_ipc.ExistentialError:
        return None
    except posix_ipc.PermissionsError:
        raise _not_allowed(name) from None
    return _attach_descriptor(name, memory.fd, role)


def _attach_descriptor(name: str, fd: int, role: int) -> Attachment | None:
    """None where the broker has ended: then its name is removed, or about to be."""
    status = os.fstat(fd)
    key = (status.st_dev, status.st_ino)
    shared = _registry.attachments.get(key)
    if shared is not None:  # the file came under this name since it was looked at; closing would drop its lock
        shared.descriptors.append(fd)
        return shared.hold()
    out = ffi.new("mqshm_t **")
    program = _PROGRAMS.get(role) or os.path.basename(sys.argv[0] or "python")[:63].encode()
    code = lib.mqshm_attach(fd, program, role, out)
    if code != lib.MQSHM_OK:
        reason = _native.reason()
        buried = code != lib.MQSHM_NOT_FOUND or bury(name, fd)
        os.close(fd)
        if code == lib.MQSHM_NOT_FOUND:
            if not buried:
                time.sleep(0.001)
            return None
        if code == lib.MQSHM_TOO_MANY:
            raise TooManyPeers(reason)
        if code == lib.MQSHM_VERSION:
            raise VersionMismatch(f"broker {name!r}: {reason}; `mqshm rm {name}` removes it")
        _native.raise_result(code, f"broker {name!r}: {reason}")
    attachment = _registry.attachments[key] = Attachment(name, key, fd, out[0])
    return attachment.hold()


def bury(name: str, fd: int) -> bool:
    """Removes the name of a broker that has ended, unless it leads to another by now. False: somebody else is at it."""
    code = lib.mqshm_bury(fd, os.fsencode(_path(name)))
    if code == lib.MQSHM_EXISTS:
        return False
    check(code)
    return True


def _path(name: str) -> Path:
    if not isinstance(name, str):
        raise TypeError(f"a broker's name is a str, not {type(name).__name__}")
    if not _NAME.fullmatch(name) or name.endswith(_TEMPORARY):
        raise InvalidConfig(
            f"broker name {name!r}: 1 to 200 letters, digits, `.`, `_` and `-`, and not `{_TEMPORARY}` at the end"
        )
    return _DIRECTORY / (_PREFIX + name)


def _regular(path: Path) -> os.stat_result:
    """What a broker's name leads to. A link is not followed, here as in the kernel: who may write it may not choose."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise SegmentCorrupt(f"{path} is not a file, so it is no broker: remove it, or take another name")
    return found


def _not_allowed(name: str) -> PermissionError:
    return PermissionError(
        f"broker {name!r} is not for this user: mode, of the connect that makes it, says for whom it is"
    )


def _shm_name(name: str) -> str:
    return f"/{_PREFIX}{name}"


def _remove_stale() -> None:
    """Temporary segments whose maker was killed between making and linking."""
    for path in _DIRECTORY.glob(f"{_PREFIX}*{_TEMPORARY}"):
        pid = path.name.split(".")[-3]
        if pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            with suppress(FileNotFoundError, PermissionError):
                if stat.S_ISREG(path.lstat().st_mode):
                    path.unlink()
