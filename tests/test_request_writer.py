"""The direct writer of mirrored requests gives the bytes of the general one, or leaves the request to it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.adapters.avro import decode, encode
from shadow.adapters.request_writer import request_bytes
from shadow.errors import InvalidRecord
from shadow.records.answers import OUTCOMES
from shadow.records.requests import Live, MirroredRequest, Origin
from tests.schema_examples import wire

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=90)
counts = st.integers(0, 2**63 - 1)
maps = st.dictionaries(texts, texts, max_size=4)
lives = st.builds(
    Live,
    version=texts,
    role=texts,
    outcome=st.sampled_from(OUTCOMES),
    status=st.integers(0, 2**31 - 1),
    headers=maps,
    body=st.binary(max_size=200),
    first_byte_us=counts,
    duration_us=counts,
    is_stream=st.booleans(),
    decision_id=st.none() | texts,
    finish_reason=st.none() | texts,
    failed_attempt=st.none() | texts,
    gap_us=counts,
)
requests = st.builds(
    MirroredRequest,
    request_id=texts,
    key=texts.filter(bool),
    event_time_us=st.integers(-(2**63), 2**63 - 1),
    method=texts,
    path=texts,
    headers=maps,
    body=st.binary(max_size=200),
    u=st.floats(0, 1, exclude_max=True),
    sample=st.floats(0, 1, exclude_min=True),
    quotas=st.dictionaries(texts, st.floats(0, 1, exclude_min=True), max_size=3),
    origin=st.builds(
        Origin,
        process=texts,
        epoch_us=st.integers(-(2**63), 2**63 - 1),
        sequence=counts,
        seen=counts,
        dropped=st.dictionaries(texts, st.integers(-(2**63), 2**63 - 1), max_size=3),
    ),
    client_request_id=st.none() | texts,
    live=st.none() | lives,
)


def row(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


@given(requests)
@settings(max_examples=300, deadline=None)
def test_the_bytes_are_those_of_another_writer(request: MirroredRequest) -> None:
    """
    Every request is written directly, to the bytes that the schema alone gives, and read back as it was.
    """
    live = None if request.live is None else row(request.live)
    expected = wire("MirroredRequest", {**row(request), "origin": row(request.origin), "live": live})

    assert expected == encode(request) == expected[:10] + request_bytes(request)
    assert request == decode(expected)


USUAL = MirroredRequest("id", "key", 0, "POST", "/", {}, b"", 0.5, 1.0, {}, Origin("p", 0, 1, 1, {}))
SERVED = replace(USUAL, live=Live("v", "production", "answered", 200, {}, b"", 1, 2))


@pytest.mark.parametrize(
    ("usual", "changed"),
    [
        (USUAL, {"key": ""}),
        (USUAL, {"key": "\ud800"}),
        (USUAL, {"path": b"/"}),
        (USUAL, {"body": "text"}),
        (USUAL, {"u": 1.0}),
        (USUAL, {"u": "half"}),
        (USUAL, {"sample": float("nan")}),
        (USUAL, {"quotas": {"s": 2.0}}),
        (USUAL, {"quotas": {"s": "all"}}),
        (USUAL, {"headers": {"name": None}}),
        (USUAL, {"headers": None}),
        (USUAL, {"event_time_us": 2**63}),
        (USUAL, {"origin": replace(USUAL.origin, sequence=-1)}),
        (USUAL, {"origin": replace(USUAL.origin, dropped={"x": "many"})}),
        (USUAL, {"live": Live("v", "production", "fine", 200, {}, b"", 1, 2)}),
        (USUAL, {"live": Live("v", "production", "answered", 2**31, {}, b"", 1, 2)}),
        (USUAL, {"live": Live("v", "production", "answered", 200, {}, b"", 1, 2, gap_us=-1)}),
    ],
    ids=str,
)
def test_what_cannot_be_read_back_is_refused(usual: MirroredRequest, changed: dict[str, Any]) -> None:
    """
    A value that does not fit goes to the general writer, which refuses it in a sentence.
    """
    with pytest.raises(InvalidRecord):
        encode(replace(usual, **changed))


def test_a_request_with_an_answer_is_read_back() -> None:
    """
    As it was written.
    """
    assert SERVED == decode(encode(SERVED))
