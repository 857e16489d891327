"""What the direct writers of Avro share: integers, texts, and what is remembered of them. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

END: Final = b"\x00"
"""Ends an array or a map."""


class Unusual(ValueError):
    """The record must go through the general writer, which refuses what must be refused."""


@lru_cache(maxsize=8192, typed=True)
def text_of(text: str) -> bytes:
    """A text that occurs again and again, such as a name; it is remembered."""
    encoded = text.encode()
    return long_of(len(encoded)) + encoded


@lru_cache(maxsize=8192)
def texts_of(texts: tuple[str, ...]) -> bytes:
    """An array of such texts."""
    if not texts:
        return END
    return b"".join((long_of(len(texts)), *map(text_of, texts), END))


def _new_long(number: int) -> bytes:
    if type(number) is not int or not -(2**63) <= number < 2**63:
        raise Unusual
    rest = (number << 1) ^ (number >> 63)
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


_SHORT: Final = [_new_long(number) for number in range(4096)]


def long_of(number: int) -> bytes:
    """An integer of 64 bits. Raises Unusual for any other value."""
    return _SHORT[number] if 0 <= number < 4096 and type(number) is int else _new_long(number)
