"""What does the machine allow? Cache line, futex, copies, and the crossings from Python, in the same run as the rest.

The C side is limits.c; the crossings are timed here: a call that does nothing through cffi and through METH_FASTCALL.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any

from . import build
from .harness import Cell, RunFailed, Sample, in_child, now
from .peers.base import Peer
from .report import Mark

UNIT = "ns, p50"
PEERS: list[str] = []
CALLS = 500_000
COPIES = (("64 B", 64, 1_000_000), ("1 KiB", 1024, 500_000), ("64 KiB", 65536, 20_000), ("1 MiB", 1 << 20, 1000))


def in_c(name: str, *arguments: int) -> Sample:
    answer = build.run(build.limits(), name, *arguments)
    tail = {key.removesuffix("_ns"): answer[key] for key in ("p99_ns", "p999_ns") if key in answer}
    return Sample(answer["p50_ns"], answer["seconds"], tail)


def copies(size: int, count: int) -> Sample:
    return in_c("memcpy", count, size)


def timed(call: Any, *arguments: Any, count: int = CALLS) -> Sample:
    """One call from a Python loop, without the loop."""
    start = now()
    for _ in repeat(None, count):
        pass
    middle = now()
    for _ in repeat(None, count):
        call(*arguments)
    spent = now() - middle - (middle - start)
    return Sample(spent / count, spent / 1e9)


@cache
def cffi_module() -> Path:
    """A module of functions that do nothing."""
    folder = build.cache() / f"cffi-{sys.implementation.cache_tag}"
    try:
        from cffi import FFI

        ffi = FFI()
        ffi.cdef("void nothing(void); int something(const char *, size_t);")
        something = "static int something(const char *p, size_t n) { return p && n; }"
        ffi.set_source("limits_cffi", f"static void nothing(void) {{}} {something}")
        return Path(in_child(lambda: ffi.compile(tmpdir=str(folder)), 60.0))
    except ImportError as error:
        raise RunFailed(f"cffi cannot build here: {error}") from None


def load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cffi_call(arguments: bool, count: int) -> Sample:
    path = cffi_module()

    def work() -> Sample:
        lib = load(path, "limits_cffi").lib
        return timed(lib.something, b"x" * 64, 64, count=count) if arguments else timed(lib.nothing, count=count)

    sample: Sample = in_child(work)
    return sample


def fastcall(arguments: bool, count: int) -> Sample:
    path = build.limits_extension()

    def work() -> Sample:
        nothing = load(path, "limits_extension").nothing
        return timed(nothing, *((b"x" * 64, 64) if arguments else ()), count=count)

    sample: Sample = in_child(work)
    return sample


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    cores = sorted(os.sched_getaffinity(0))
    first, second = cores[0], cores[-1]
    found = [
        Cell("C", "futex", "wake, nobody asleep", lambda count: in_c("wake", count), 1_000_000, fixed=True),
        Cell(
            "C", "futex", "round trip, one core", lambda count: in_c("futex", count, first, first), 20_000, fixed=True
        ),
    ]
    if second != first:
        found += [
            Cell(
                "C",
                "line",
                "round trip, two cores",
                lambda count: in_c("line", count, first, second),
                200_000,
                fixed=True,
            ),
            Cell(
                "C",
                "futex",
                "round trip, two cores",
                lambda count: in_c("futex", count, first, second),
                3000,
                fixed=True,
            ),
        ]
    for word, size, count in COPIES:
        found.append(Cell("C", "memcpy", word, partial(copies, size), count, fixed=True))
    for binding, run in (("cffi", cffi_call), ("METH_FASTCALL", fastcall)):
        found.append(Cell("Python", binding, "empty call", partial(run, False), CALLS, fixed=True))
        found.append(Cell("Python", binding, "call with bytes and int", partial(run, True), CALLS, fixed=True))
    return found


MARKS: list[Mark] = []
