"""Numbers for people."""

from __future__ import annotations


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def size(number: float) -> str:
    """Bytes."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def time(seconds: float) -> str:
    """How long."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for unit, most, length in (("s", 120, 1), ("min", 7200, 60), ("h", 172800, 3600)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def short(number: float) -> str:
    """In five characters at most."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5 or unit == "G":
            break
        number /= 1000
    return f"{number:.0f}{unit}" if not unit or number >= 99.95 else f"{number:.1f}{unit}"
