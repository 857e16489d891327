"""Single-object encoding: what goes in comes out, and everything else is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.adapters.avro import MARKER, decode, encode, fingerprint_of
from shadow.errors import InvalidRecord
from shadow.records.answers import OUTCOMES, Answer, Tick
from shadow.records.requests import Live, MirroredRequest, Origin
from tests.schema_examples import NAMES, VALID, example_bytes, schema_of

ORIGIN = Origin("p:1", 1, 1, 1, {})
REQUEST = MirroredRequest("id", "key", 0, "POST", "/", {}, b"", 0.0, 1.0, {}, ORIGIN)
ANSWER = Answer("run", 0, 5, 1, "candidate", "v2", "answered", 200, {"a": "b"}, b"body", 1, 2, 3, exchange=REQUEST)
TICK = encode(Tick("run", 7, 9))
PREFIX = TICK[:10]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**63 - 1)
times = st.integers(-(2**63), 2**63 - 1)
requests = st.builds(
    MirroredRequest,
    request_id=texts,
    key=texts.filter(bool),
    event_time_us=times,
    method=texts,
    path=texts,
    headers=st.dictionaries(texts, texts, max_size=3),
    body=st.binary(max_size=50),
    u=st.floats(0, 1, exclude_max=True),
    sample=st.floats(0, 1, exclude_min=True),
    quotas=st.dictionaries(texts, st.floats(0, 1, exclude_min=True), max_size=2),
    origin=st.builds(
        Origin,
        process=texts,
        epoch_us=times,
        sequence=counts,
        seen=counts,
        dropped=st.dictionaries(texts, counts, max_size=3),
    ),
    client_request_id=st.none() | texts,
    live=st.none()
    | st.builds(
        Live,
        version=texts,
        role=texts,
        outcome=st.sampled_from(OUTCOMES),
        status=st.integers(0, 999),
        headers=st.dictionaries(texts, texts, max_size=3),
        body=st.binary(max_size=50),
        first_byte_us=counts,
        duration_us=counts,
        is_stream=st.booleans(),
        decision_id=st.none() | texts,
        finish_reason=st.none() | texts,
        failed_attempt=st.none() | texts,
    ),
)
answers = st.builds(
    Answer,
    run=texts,
    request_partition=st.integers(0, 2**31 - 1),
    request_offset=counts,
    request_time_us=times,
    role=texts,
    version=texts,
    outcome=st.sampled_from(OUTCOMES),
    status=st.integers(0, 999),
    headers=st.dictionaries(texts, texts, max_size=3),
    body=st.binary(max_size=50),
    started_us=times,
    first_byte_us=counts,
    duration_us=counts,
    prompt_tokens=counts,
    completion_tokens=counts,
    cost_micro=counts,
    error=st.none() | texts,
    exchange=st.none() | requests,
)


@given(answers)
@settings(deadline=None)
def test_every_answer_comes_back_as_it_was(answer: Answer) -> None:
    """
    Times of any size, arbitrary bodies and texts: what was encoded is decoded to an equal record.
    """
    assert answer == decode(encode(answer))


def test_mappings_of_any_kind_are_written() -> None:
    """
    A record may carry a view instead of a dict; the reader gets an equal mapping.
    """
    record = MirroredRequest(
        "id", "key", 0, "GET", "/", MappingProxyType({"a": "b"}), b"", 0.5, 0.5, MappingProxyType({"s": 1.0}), ORIGIN
    )
    assert decode(encode(record)).headers == {"a": "b"}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "the value is null"),
        (b"", "the value is empty"),
        (b"\x00\x00\x00\x00\x01abc", "begins with 0000"),
        (b"\xc3\x01\x01", "ends after 3 bytes"),
        (MARKER + bytes(8) + TICK[10:], "fingerprint 0000000000000000 is not known"),
        (TICK + b"\x00", "1 bytes follow the end of the Tick"),
        (TICK[:-1], "ends too early"),
        (PREFIX, "ends too early"),
        (PREFIX + b"\x00\xc6\x01\x00", "IndexError"),
        (PREFIX + b"\x04\xff\xfe\x00\x00", "UnicodeDecodeError"),
        (PREFIX + b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01ab", "Tick cannot be read"),
        (PREFIX + b"\x80\x80\x80\x80\x80\x40" + b"abc", "ends too early"),
        (PREFIX + b"\x09" + b"abc", "Tick cannot be read"),
        (PREFIX + b"\x00\x00" + b"\x80" * 29 + b"\x00", "more than 64 bits"),
        (PREFIX + b"\x00\x00" + b"\xfe" + b"\xff" * 8 + b"\x02", "more than 64 bits"),
        (PREFIX + b"\x00\x00\x01", "requests_end is -1"),
        (b"Obj\x01" + bytes(50), "begins with 4f62"),
    ],
    ids=[
        "77-null",
        "empty",
        "79-other-marker",
        "short-fingerprint",
        "80-unknown-fingerprint",
        "81-trailing",
        "cut",
        "prefix-only",
        "85-union-index-99",
        "86-bad-utf-8",
        "huge-length",
        "84-length-2-to-the-38",
        "84-length-minus-5",
        "83-varint-of-30-bytes",
        "varint-of-65-bits",
        "negative-offset",
        "89-container-file",
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(value: bytes | None, sentence: str) -> None:
    """
    Each bad value becomes InvalidRecord, with what was found, on one line.
    """
    with pytest.raises(InvalidRecord, match=sentence) as caught:
        decode(value)
    assert "\n" not in str(caught.value)


def test_the_smallest_and_the_largest_integer_are_read() -> None:
    """
    Ten bytes of a full 64-bit integer are not mistaken for an overflow.
    """
    for time_us in (-(2**63), 2**63 - 1):
        answer = Answer("r", 0, 0, time_us, "candidate", "v", "answered", 200, {}, b"\xff" * 40, time_us, 0, 0)
        assert answer == decode(encode(answer))


def test_a_value_above_the_limit_is_refused_unread() -> None:
    """
    The size comes first.
    """
    with pytest.raises(InvalidRecord, match="more than the 12 that are read"):
        decode(TICK, bytes_max=12)


@pytest.mark.parametrize(
    "record",
    [
        Tick("\ud800"),
        Tick("run", 2**63),
        Tick("run", requests_end=-1),
        Answer("r", 0, 0, 0, "candidate", "v", "fine", 200, {}, b"", 0, 0, 0),
        Answer("r", 2**31, 0, 0, "candidate", "v", "answered", 200, {}, b"", 0, 0, 0),
        Tick(None),  # type: ignore[arg-type]
        object(),
    ],
    ids=["surrogate", "65-bits", "negative", "unknown-outcome", "33-bits", "none", "foreign-class"],
)
def test_what_could_not_be_read_back_is_not_written(record: object) -> None:
    """
    A record that every reader would put aside never leaves its writer.
    """
    with pytest.raises(InvalidRecord):
        encode(record)


def reads_or_refuses(value: bytes) -> None:
    try:
        record = decode(value)
    except InvalidRecord:
        return
    assert record == decode(encode(record))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_record_or_refused(value: bytes) -> None:
    """
    Nothing else than InvalidRecord ever comes out of the decoder.
    """
    reads_or_refuses(value)


@given(st.sampled_from(NAMES), st.binary(max_size=400))
@settings(max_examples=500, deadline=None)
def test_any_bytes_behind_a_known_fingerprint_are_a_record_or_refused(name: str, value: bytes) -> None:
    """
    The same where the fingerprint is right.
    """
    reads_or_refuses(MARKER + fingerprint_of(schema_of(name)) + value)


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=500, deadline=None)
def test_any_damage_to_a_valid_record_is_a_record_or_refused(path: Path, data: st.DataObject) -> None:
    """
    The same for records with some bytes replaced, cut out or put in.
    """
    value = example_bytes(path)
    at = data.draw(st.integers(10, len(value)))
    cut = data.draw(st.integers(0, 12))
    reads_or_refuses(value[:at] + data.draw(st.binary(max_size=12)) + value[at + cut :])
