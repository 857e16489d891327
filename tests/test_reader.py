"""The compiled readers accept, refuse and read what the general reader does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.adapters.avro import MARKER, PREFIX_BYTES, decode, decode_generally, encode, fingerprint_of
from shadow.adapters.reader import REFUSED, Unusual, _long, reader_of
from shadow.adapters.shapes import RECORDS
from shadow.errors import InvalidRecord
from tests.schema_examples import VALID as EXAMPLES
from tests.schema_examples import example_bytes, schema_of
from tests.test_avro import answers, requests

COMPILED = ("Answer", "MirroredRequest")
VALID = [path for path in EXAMPLES if path.parent.name in COMPILED]


def result_of(read: Any, value: bytes) -> str:
    """The record with the types of its values, or why there is none."""
    try:
        return repr(read(value))
    except InvalidRecord as refused:
        return str(refused)


@given(answers | requests)
@settings(max_examples=300, deadline=None)
def test_every_record_is_read_alike(record: Any) -> None:
    """
    A record that was written is read to the same values of the same types, maps in the same order.
    """
    value = encode(record)

    assert repr(record) == result_of(decode, value) == result_of(decode_generally, value)


@given(answers | requests, st.data())
@settings(max_examples=1000, deadline=None)
def test_damage_is_seen_alike(record: Any, data: st.DataObject) -> None:
    """
    With bytes replaced, cut out or put in, both readers give the same record or the same sentence.
    """
    value = encode(record)
    at = data.draw(st.integers(PREFIX_BYTES, len(value)))
    put = data.draw(st.binary(max_size=12) | st.sampled_from([b"\x80\x00", b"\xff" * 9 + b"\x01", b"\x01", b"\x02"]))
    value = value[:at] + put + value[at + data.draw(st.integers(0, 12)) :]

    assert result_of(decode_generally, value) == result_of(decode, value)


@given(st.sampled_from(COMPILED), st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_seen_alike(name: str, value: bytes) -> None:
    """
    The same for bytes that are no record.
    """
    value = MARKER + fingerprint_of(schema_of(name)) + value

    assert result_of(decode_generally, value) == result_of(decode, value)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_every_single_byte_is_seen_alike(path: Any) -> None:
    """
    Each byte of an example set to each of the values at which something changes.
    """
    value = example_bytes(path)
    for at in range(PREFIX_BYTES, len(value)):
        for byte in (0, 1, 2, 3, 4, 0x7E, 0x7F, 0x80, 0x81, 0xFF):
            changed = value[:at] + bytes([byte]) + value[at + 1 :]
            assert result_of(decode_generally, changed) == result_of(decode, changed), (at, byte)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_usual_records_do_not_need_the_general_reader(path: Any) -> None:
    """
    The examples are read directly, so that what is measured is what is used.
    """
    name, value = path.parent.name, example_bytes(path)
    read = reader_of(schema_of(name), RECORDS, lambda record: True)

    assert decode_generally(value) == read(value, PREFIX_BYTES)
    for cut in range(PREFIX_BYTES, len(value)):
        with pytest.raises(REFUSED):
            read(value[:cut], PREFIX_BYTES)


@pytest.mark.parametrize("number", [64, -65, 2**13, 2**35, -(2**35), 2**62, 2**63 - 1, -(2**63)])
def test_long_integers(number: int) -> None:
    """
    Integers of two to ten bytes, of both signs.
    """
    rest, written = (number << 1) ^ (number >> 63), bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    value = bytes([*written, rest])

    assert (number, len(value)) == _long(value, 0)
    with pytest.raises(REFUSED):
        _long(value[:-1], 0)


def test_more_than_64_bits_are_left_to_the_general_reader() -> None:
    """
    It wraps nothing around.
    """
    for value in (b"\xff" * 9 + b"\x02", b"\x80" * 30 + b"\x00"):
        with pytest.raises(Unusual):
            _long(value, 0)
