"""Builds mqshm._core: the C core, and the binding that cffi makes of its public header."""

from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).parent
ROOT = CSRC.parent
BEGIN, END = "/* cdef begin */", "/* cdef end */"
COMPILE_ARGS = ["-O3", "-std=gnu11", "-fvisibility=hidden"]


def declarations() -> str:
    """What stands between the two markers of the header, which is all that cffi needs to know."""
    return (CSRC / "mqshm.h").read_text().split(BEGIN)[1].split(END)[0]


def sources(*rooms: str) -> list[str]:
    """The C files of some directories, relative to the project, as setuptools wants them."""
    return sorted(str(path.relative_to(ROOT)) for room in rooms for path in (CSRC / room).glob("*.c"))


def headers() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in CSRC.rglob("*.h"))


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "mqshm._core",
    '#include "mqshm.h"',
    sources=sources("os", "shm", "flow"),
    depends=headers(),
    include_dirs=[str(CSRC.relative_to(ROOT))],
    extra_compile_args=COMPILE_ARGS,
    libraries=["pthread", "rt"],
)
