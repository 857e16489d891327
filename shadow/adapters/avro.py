"""Avro single-object encoding of every record that stands in a topic.

    C3 01 | CRC-64-AVRO fingerprint of the schema, 8 bytes, little endian | Avro binary

The schemas are ours, pinned by fingerprint: nothing that arrives can name or bring another one. Schemas of
earlier releases lie in `schemas/older`, so that a log outlives an upgrade.

Source: Apache Avro 1.12 specification, "Single-object encoding" and "Schema Fingerprints".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, Final

import fastavro
from fastavro.schema import fingerprint, load_schema, to_parsing_canonical_form

from shadow.adapters.data import data_dir
from shadow.adapters.reader import REFUSED, reader_of
from shadow.adapters.shapes import RECORDS, SHAPES, Row, Shape
from shadow.adapters.varints import has_overflow
from shadow.errors import InvalidRecord

MARKER: Final = b"\xc3\x01"
PREFIX_BYTES: Final = 10
VALUE_BYTES_MAX: Final = 64 << 20
"""A value above this is refused unread: four times the largest body_max that can be configured sensibly."""

_FOREIGN = (EOFError, IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError, MemoryError)
"""Whatever fastavro raises on bytes or values that do not fit the schema (UnicodeError is a ValueError)."""


@dataclass(frozen=True, slots=True)
class _Codec:
    name: str
    prefix: bytes
    schema: Any
    reader_schema: Any
    to_row: Callable[[Any], Row]
    from_row: Callable[[Row], Any]
    check: Callable[[Row], None]
    fast_bytes: Callable[[Any], bytes] | None
    fast_record: Callable[[bytes, int], Any] | None


def encode(record: object) -> bytes:
    """Write a record; `decode` gives an equal one.

    Raises:
        InvalidRecord: If a field's value does not fit its schema or its range.
    """
    codec = _codecs_by_class().get(type(record))
    if codec is None:
        raise InvalidRecord(f"a {type(record).__name__} stands in no topic and has no schema")
    if codec.fast_bytes is not None:
        try:
            return codec.prefix + codec.fast_bytes(record)
        except _FOREIGN:
            pass  # the general writer says what is wrong, if anything is
    buffer = BytesIO()
    buffer.write(codec.prefix)
    try:
        row = codec.to_row(record)
        codec.check(row)
        _name_branches(row)
        fastavro.schemaless_writer(buffer, codec.schema, row)
    except _FOREIGN as error:
        raise InvalidRecord(f"a {codec.name} cannot be written: {_sentence(error)}") from error
    return buffer.getvalue()


def _name_branches(row: Row) -> None:
    """Name the records inside unions, which the writer would otherwise validate as a whole to find their branch."""
    exchange = row.get("exchange")
    request = row if exchange is None else exchange
    if request.get("live") is not None:
        request["live"] = ("shadow.Live", request["live"])
    if exchange is not None:
        row["exchange"] = ("shadow.MirroredRequest", exchange)


def decode(value: bytes | None, *, bytes_max: int = VALUE_BYTES_MAX) -> Any:
    """Read a record of any kind.

    Args:
        bytes_max: Larger values are refused before anything of them is read.

    Raises:
        InvalidRecord: If the value is not exactly one record that `encode` could have written.
    """
    if not value:
        raise InvalidRecord("the value is null" if value is None else "the value is empty")
    if len(value) > bytes_max:
        raise InvalidRecord(f"the value has {len(value)} bytes, more than the {bytes_max} that are read")
    codec = _codecs_by_prefix().get(value[:PREFIX_BYTES])
    if codec is None:
        raise _unknown(value)
    if codec.fast_record is not None:
        try:
            return codec.fast_record(value, PREFIX_BYTES)
        except REFUSED:
            pass  # the general reader says what is wrong, if anything is
    return _read_generally(codec, value)


def decode_generally(value: bytes) -> Any:
    """Read a record as `decode` does, without a compiled reader: slower, with the same result.

    Raises:
        InvalidRecord: If the value is not exactly one record that `encode` could have written.
    """
    codec = _codecs_by_prefix().get(value[:PREFIX_BYTES])
    if codec is None:
        raise _unknown(value)
    return _read_generally(codec, value)


def _read_generally(codec: _Codec, value: bytes) -> Any:
    buffer = BytesIO(value)
    buffer.seek(PREFIX_BYTES)
    try:
        row: Any = fastavro.schemaless_reader(buffer, codec.schema, codec.reader_schema)
        rest = len(value) - buffer.tell()
        if rest:
            raise InvalidRecord(f"{rest} bytes follow the end of the {codec.name}")
        if has_overflow(value, PREFIX_BYTES, codec.schema):
            raise InvalidRecord(f"the {codec.name} contains an integer of more than 64 bits")
        codec.check(row)
        return codec.from_row(row)
    except _FOREIGN as error:
        raise InvalidRecord(f"the {codec.name} cannot be read: {_sentence(error)}") from error


def _unknown(value: bytes) -> InvalidRecord:
    if value[:2] != MARKER:
        return InvalidRecord(f"the value begins with {value[:2].hex()}, not with Avro's marker {MARKER.hex()}")
    if len(value) < PREFIX_BYTES:
        return InvalidRecord(f"the value ends after {len(value)} bytes, within the schema's fingerprint")
    return InvalidRecord(f"the schema with fingerprint {value[2:PREFIX_BYTES].hex()} is not known here")


def _sentence(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "it ends too early"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


@cache
def _codecs_by_prefix() -> dict[bytes, _Codec]:
    codecs = {}
    for shape in SHAPES:
        name = shape.record.__name__
        directory = data_dir("schemas")
        current = load_schema(str(directory / f"shadow.{name}.avsc"))
        older = [load_schema(str(path)) for path in sorted((directory / "older").glob(f"*/shadow.{name}.avsc"))]
        for schema in [*older, current]:
            codec = _codec(shape, schema, None if schema is current else current)
            codecs[codec.prefix] = codec
    return codecs


@cache
def _codecs_by_class() -> dict[type[Any], _Codec]:
    # Current schemas come last of their class, so they are the ones that stay.
    by_name = {codec.name: codec for codec in _codecs_by_prefix().values() if codec.reader_schema is None}
    return {shape.record: by_name[shape.record.__name__] for shape in SHAPES}


def _codec(shape: Shape, schema: Any, reader_schema: Any) -> _Codec:
    return _Codec(
        name=shape.record.__name__,
        prefix=MARKER + fingerprint_of(schema),
        schema=schema,
        reader_schema=reader_schema,
        to_row=shape.to_row,
        from_row=shape.from_row,
        check=shape.check,
        fast_bytes=shape.fast_bytes,
        fast_record=None if shape.is_sound is None or reader_schema else reader_of(schema, RECORDS, shape.is_sound),
    )


def fingerprint_of(schema: Any) -> bytes:
    """CRC-64-AVRO of a schema's parsing canonical form, 8 bytes, little endian."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
