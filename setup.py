"""The two extension modules; everything else about the package stands in pyproject.toml."""

import runpy
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

core = runpy.run_path(str(Path(__file__).parent / "csrc" / "build_core.py"))

# One build serves all later versions of CPython, where its limited API has what is needed.
cpython = sys.implementation.name == "cpython"
limited = cpython and sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")

front = Extension(
    "mqshm._front",
    core["sources"]("front"),
    depends=core["headers"](),
    include_dirs=["csrc"],
    extra_compile_args=core["COMPILE_ARGS"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if limited else [],
    py_limited_api=limited,
    optional=True,  # mqshm._plain does the same over cffi
)


class Build(build_ext):
    """Says what is missing before the compiler does."""

    def run(self) -> None:
        header = Path(sysconfig.get_path("include"), "Python.h")
        if not header.exists():
            sys.exit(f"mqshm needs Python's headers to be built, and {header} is not there (Debian: python3-dev)")
        super().run()


setup(
    cmdclass={"build_ext": Build},
    cffi_modules=["csrc/build_core.py:ffibuilder"],
    ext_modules=[front] if cpython else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {},
)
