"""Values that no writer of ours makes: each is one of the bad inputs of the topics, by its number."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import fastavro

from shadow.adapters.avro import encode
from shadow.records.answers import Answer
from shadow.records.requests import MirroredRequest

Record = Answer | MirroredRequest

MARK = b"<here is the mark>"
"""Stands in a header of every good record, so that a forger finds its place in the bytes."""


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad input.

    Args:
        number: As in the list of bad inputs.
        what: In a few words.
        value_of: Makes the value of a good record; None: no value at all.
    """

    number: int
    what: str
    value_of: Callable[[Record], bytes | None]

    def __str__(self) -> str:
        return f"{self.number}-{self.what.replace(' ', '-')}"


def zigzag(number: int) -> bytes:
    """A number as Avro writes it."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*out, number])


def marked(value: bytes, replacement: bytes) -> bytes:
    """Replace the mark and the length before it."""
    length = zigzag(len(MARK))
    assert value.count(length + MARK) == 1
    return value.replace(length + MARK, replacement)


def without_marker(record: Record) -> bytes:
    return b"\x00\x00\x00\x00\x07" + encode(record)[10:]


def container(record: Record) -> bytes:
    """An object container file whose one block inflates to 20 MB."""
    buffer = io.BytesIO()
    schema = {"type": "record", "name": "Bomb", "fields": [{"name": "body", "type": "bytes"}]}
    fastavro.writer(buffer, schema, [{"body": bytes(20_000_000)}], codec="deflate")
    return buffer.getvalue()


BAD = (
    Bad(77, "null value", lambda record: None),
    Bad(77, "empty value", lambda record: b""),
    Bad(79, "magic byte and schema id of another format", without_marker),
    Bad(80, "unknown fingerprint", lambda record: b"\xc3\x01" + bytes(8) + encode(record)[10:]),
    Bad(81, "trailing bytes", lambda record: encode(record) + b"\x00"),
    Bad(82, "integer above 32 bits", lambda record: with_status(record, zigzag(2**40))),
    Bad(83, "varint of 30 bytes", lambda record: with_status(record, b"\x80" * 29 + b"\x01")),
    Bad(84, "bytes of length 2^40", lambda record: marked(encode(record), zigzag(2**40) + MARK)),
    Bad(84, "bytes of length -5", lambda record: marked(encode(record), zigzag(-5) + MARK)),
    Bad(85, "union index 99", lambda record: with_union(record, zigzag(99))),
    Bad(86, "bad UTF-8", lambda record: marked(encode(record), zigzag(len(MARK)) + b"\xff" * len(MARK))),
    Bad(89, "container file with a deflate bomb", container),
    Bad(0, "cut off", lambda record: encode(record)[:-3]),
)
"""What cannot be decoded, whatever it claims to be."""


def with_status(record: Record, status: bytes) -> bytes:
    """Write other bytes where the HTTP status stands, which is 200 and follows the outcome."""
    place = zigzag(len("answered")) + b"answered" + zigzag(200)
    value = encode(record)
    assert place in value
    return value.replace(place, zigzag(len("answered")) + b"answered" + status, 1)


def with_union(record: Record, index: bytes) -> bytes:
    """Write another branch where the last union of the record stands: its branches are null and something."""
    value = bytearray(encode(record))
    assert value.endswith(b"\x00")
    return bytes(value[:-1]) + index
