"""Find integers of more than 64 bits in Avro binary; the reading library wraps them around silently. Pure.

An integer of 64 bits takes at most ten bytes, the tenth being 0 or 1. So a value without nine bytes in a row
that have their high bit set holds none that is longer, and only the others are walked through.
"""

from __future__ import annotations

import struct
from typing import Any, Final

_HIGH: Final = bytes([0x41] * 128 + [0x80] * 128)
"""Maps low bytes to one that differs from 0x80 in its last six bits, by which `in` skips ahead."""
_RUN: Final = b"\x80" * 9
_FIXED_BYTES: Final = {"null": 0, "boolean": 1, "float": 4, "double": struct.calcsize("<d")}


def has_overflow(value: bytes, start: int, schema: Any) -> bool:
    """Whether an integer in a readable value has more than 64 bits.

    Args:
        value: Bytes that a reader has already consumed without an error.
        start: Where the Avro binary begins in them.
        schema: The parsed schema that they were written with, named types inlined or used again by name.
    """
    if _RUN not in value.translate(_HIGH):
        return False
    try:
        _skip(value, start, schema, {})
    except OverflowError:
        return True
    return False


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A zig-zag integer and the position behind it."""
    result = shift = 0
    while True:
        byte = value[at]
        at += 1
        if shift == 63 and byte > 1:
            raise OverflowError
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), at
        shift += 7


def _skip(value: bytes, at: int, schema: Any, named: dict[str, Any]) -> int:
    """The position behind one datum."""
    if isinstance(schema, list):
        branch, at = _varint(value, at)
        return _skip(value, at, schema[branch], named)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        named[schema["name"]] = schema
        for field in schema["fields"]:
            at = _skip(value, at, field["type"], named)
        return at
    if kind in ("array", "map"):
        return _skip_blocks(value, at, kind, schema, named)
    if kind in ("int", "long"):
        return _varint(value, at)[1]
    if kind in ("bytes", "string"):
        size, at = _varint(value, at)
        return at + size
    if kind in named:
        return _skip(value, at, named[kind], named)
    return at + _FIXED_BYTES[kind]


def _skip_blocks(value: bytes, at: int, kind: str, schema: Any, named: dict[str, Any]) -> int:
    while True:
        count, at = _varint(value, at)
        if count == 0:
            return at
        if count < 0:
            # A negative count is followed by the size of the block in bytes.
            count, (_, at) = -count, _varint(value, at)
        for _ in range(count):
            if kind == "map":
                size, at = _varint(value, at)
                at += size
            at = _skip(value, at, schema["items" if kind == "array" else "values"], named)
