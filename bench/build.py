"""Compiles the C and C++ programs beside this file into the user's cache, again when their source changes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from .harness import RunFailed

HERE = Path(__file__).parent


def cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mqshm-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def built(source: Path, compiler: str, *flags: str, suffix: str = "") -> Path:
    """The program (or module) made of this source. RunFailed where it cannot be made."""
    mark = hashlib.sha256(source.read_bytes() + " ".join((compiler, *flags)).encode()).hexdigest()[:16]
    target = cache() / mark / (source.stem + suffix)
    if target.exists():
        return target
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        subprocess.run([compiler, "-O3", "-o", unfinished, source, *flags], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RunFailed(f"{compiler} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise RunFailed(f"{source.name} does not compile: {error.stderr.strip().splitlines()[0]}") from None
    unfinished.rename(target)
    return target


def limits() -> Path:
    return built(HERE / "limits.c", os.environ.get("CC", "cc"))


def limits_extension() -> Path:
    include = sysconfig.get_paths()["include"]
    flags = ("-shared", "-fPIC", "-DLIMITS_EXTENSION", f"-I{include}")
    return built(HERE / "limits.c", os.environ.get("CC", "cc"), *flags, suffix="_extension.so")


def run(program: Path, *arguments: object, timeout: float = 60.0) -> dict[str, Any]:
    """What a program of ours prints. It is killed when it is late."""
    try:
        done = subprocess.run(
            [program, *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{program.name} {arguments[0]}: not done in time") from None
    except subprocess.CalledProcessError as error:
        raise RunFailed(f"{program.name} {arguments[0]}: {error.stderr.strip() or error}") from None
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
