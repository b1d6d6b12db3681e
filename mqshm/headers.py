"""Headers on the wire: str to str, bytes, int, float, bool or None, in a compact encoding of their own.

    entry = key size (u16) | key | tag (u8) | value
    value: N none, T true, F false; f float (f64); i int (u8 size, two's complement); s str, b bytes (u32 size, bytes)

All numbers are little end first. Entries follow each other to the end; an empty mapping is no bytes at all.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from mqshm.errors import InvalidMessage, SegmentCorrupt

HeaderValue = str | bytes | int | float | bool | None
Headers = Mapping[str, HeaderValue]

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_F64 = struct.Struct("<d")


def encode(headers: Headers) -> bytes:
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers are a mapping of str to values, not {type(headers).__name__}")
    out = bytearray()
    for key, value in headers.items():
        if not isinstance(key, str):
            raise InvalidMessage(f"a header's name is a str, not {type(key).__name__}")
        name = _utf8(key, "the name")
        if len(name) > 0xFFFF:
            raise InvalidMessage(f"header {key[:40]!r}... : the name is {len(name)} bytes long; 65535 are allowed")
        out += _U16.pack(len(name))
        out += name
        out += _value(key, value)
    return bytes(out)


def _value(key: str, value: HeaderValue) -> bytes:
    if value is None:
        return b"N"
    if value is True:
        return b"T"
    if value is False:
        return b"F"
    if isinstance(value, str):
        data = _utf8(value, f"the value of {key!r}")
        return b"s" + _U32.pack(len(data)) + data
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return b"b" + _U32.pack(len(data)) + data
    if isinstance(value, int):
        size = value.bit_length() // 8 + 1
        if size > 0xFF:
            raise InvalidMessage(f"header {key!r}: the int needs {size} bytes; 255 are allowed. Send it as a str")
        return b"i" + bytes((size,)) + value.to_bytes(size, "little", signed=True)
    if isinstance(value, float):
        return b"f" + _F64.pack(value)
    raise InvalidMessage(
        f"header {key!r}: {type(value).__name__} is not a header's type; str, bytes, int, float, bool and None are"
    )


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"headers: {what} is not Unicode text: {error.reason}") from None


def decode(data: bytes) -> dict[str, HeaderValue]:
    """The bytes come from shared memory, so nothing about them is taken for granted."""
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(data):
            (size,) = _U16.unpack_from(data, at)
            key, at = _take(data, at + 2, size)
            tag, at = _take(data, at, 1)
            value: HeaderValue
            if tag == b"s" or tag == b"b":
                (size,) = _U32.unpack_from(data, at)
                raw, at = _take(data, at + 4, size)
                value = raw.decode() if tag == b"s" else raw
            elif tag == b"i":
                length, at = _take(data, at, 1)
                raw, at = _take(data, at, length[0])
                value = int.from_bytes(raw, "little", signed=True)
            elif tag == b"f":
                raw, at = _take(data, at, 8)
                (value,) = _F64.unpack(raw)
            else:
                value = {b"N": None, b"T": True, b"F": False}[tag]
            headers[key.decode()] = value
    except (struct.error, KeyError, IndexError, UnicodeDecodeError):
        raise SegmentCorrupt(
            f"a message's headers do not decode at byte {at} of {len(data)}: run `mqshm fsck`"
        ) from None
    return headers


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    end = at + size
    if end > len(data):
        raise IndexError
    return data[at:end], end
