"""A configuration from a file, the environment and the command line: reading is at the edge, merging is pure.

    flags, over environment (MQSHM_MAX_TOPICS=100), over file (TOML: max_topics = 100), over the defaults

Numbers of bytes and of seconds may be said with their unit: "512MiB", "1.5s", "200ms".
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mqshm.config import FIELDS, Config
from mqshm.errors import InvalidConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "MQSHM_"
OTHER_VARIABLES = frozenset({"MQSHM_FRONT", "MQSHM_LOG", "MQSHM_SUPERVISOR"})
"""Variables of this prefix that are no fields."""

_INTEGERS = {"max_topics", "max_subscribers", "default_buffer_size", "max_attempts"}
_BYTES = {"max_message_size", "max_memory_usage"}
_SECONDS = {
    "message_ttl",
    "default_ack_timeout",
    "transaction_timeout",
    "dedup_window",
    "health_check_interval",
    "spin",
}
_SWITCHES = {"dead_letter_expired", "enable_metrics", "enable_priority_queue", "enable_trie_pattern"}
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30,
          "t": 1 << 40, "tib": 1 << 40, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}  # fmt: skip
_TIMES = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*")


def load(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> Config:
    """The whole configuration of a broker that is to be made."""
    return Config(**given(path, environ, flags))


def given(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The fields that are given. `flags` are fields, as values or as text; None: not given. InvalidConfig says which
    source, which field, which value, and what it may be."""
    if path is None:
        return _fields(flags or {}, environ, {}, "")
    return _fields(flags or {}, environ, read(path), os.fspath(path))


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of a TOML file, not yet looked at."""
    try:
        fields: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return fields
    except OSError as error:
        raise InvalidConfig(f"{os.fspath(path)}: {error.strerror}; give another file with --config") from None
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{os.fspath(path)}: not UTF-8 text, at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{os.fspath(path)}: not TOML: {error}") from None


def merged(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any], file_name: str = "the file"
) -> Config:
    return Config(**_fields(flags, environ, file, file_name))


def _fields(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any], file_name: str
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in file.items():
        fields[key] = field(key, value, file_name)
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and variable not in OTHER_VARIABLES:
            key = variable.removeprefix(PREFIX).lower()
            fields[key] = field(key, text, f"environment variable {variable}")
    for key, value in flags.items():
        if value is not None:
            fields[key] = field(key, value, "command line")
    Config(**fields)  # which looks at what must agree
    return fields


def field(key: str, value: Any, source: str) -> Any:
    """The value of a field, from text where that is what it is given as; checked."""
    _check_name(key, source)
    try:
        made = _from_text(key, value) if isinstance(value, str) else _from_toml(key, value)
        return getattr(Config(**{key: made}), key)
    except InvalidConfig as error:
        raise InvalidConfig(f"{source}: {key} = {value!r}: {error}") from None


def to_toml(config: Config) -> str:
    """As a file that `read` takes."""
    return "".join(
        f"{each.name} = {to_text(getattr(config, each.name))}\n" for each in dataclasses.fields(config)
    )  # fmt: skip


def to_text(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(to_text, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def _check_name(key: str, source: str) -> None:
    if key not in FIELDS:
        near = difflib.get_close_matches(key, FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(FIELDS))}"
        raise InvalidConfig(f"{source}: no field {key!r}; {hint}")


def _from_toml(key: str, value: Any) -> Any:
    if key == "backoff" and isinstance(value, list):
        return tuple(_time(key, each) if isinstance(each, str) else each for each in value)
    return value


def _from_text(key: str, text: str) -> Any:
    if key in _SWITCHES:
        try:
            return _WORDS[text.strip().lower()]
        except KeyError:
            raise InvalidConfig(f"{key} is true or false") from None
    if key in _SECONDS:
        return _time(key, text)
    if key in _BYTES:
        return _bytes(key, text)
    if key in _INTEGERS:
        try:
            return int(text)
        except ValueError:
            raise InvalidConfig(f"{key} is a whole number") from None
    if key == "backoff":
        return tuple(_time(key, each) for each in text.strip("[]() ").split(","))
    if key == "dead_letter_topic":
        return text or None
    return text


def _time(key: str, text: str) -> float:
    return round(_with_unit(key, text, _TIMES, "seconds: 30, 1.5s, 200ms, 5min, 2h"), 9)


def _bytes(key: str, text: str) -> int:
    number = _with_unit(key, text, _SIZES, "bytes: 1048576, 64KiB, 512MiB, 1GiB")
    if number != int(number):
        raise InvalidConfig(f"{key} is a whole number of bytes, not {number}")
    return int(number)


def _with_unit(key: str, text: str, units: Mapping[str, float], examples: str) -> float:
    found = _NUMBER.fullmatch(text)
    unit = units.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise InvalidConfig(f"{key} is a number of {examples}")
    return float(found[1]) * unit if "." in found[1] or isinstance(unit, float) else int(found[1]) * unit
