"""The direct writer of graded pairs gives the bytes of the general one, or leaves the pair to it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.adapters.avro import decode, encode
from shadow.adapters.pair_writer import pair_bytes
from shadow.errors import InvalidRecord
from shadow.records.answers import OUTCOMES
from shadow.records.grades import Grade
from shadow.records.pairs import GradedPair
from tests.schema_examples import wire

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=90)
longs = st.integers(-(2**63), 2**63 - 1)
grades = st.builds(
    Grade,
    outcome=st.sampled_from(["passed", "failed", "not_applicable", "broken"]),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    reason=texts | st.text("é", min_size=380, max_size=420),
)
pairs = st.builds(
    GradedPair,
    run=texts,
    comparison=texts,
    request_partition=st.integers(0, 2**31 - 1),
    request_offset=st.integers(0, 2**63 - 1),
    request_id=texts,
    key=texts,
    tile=longs,
    slices=st.lists(texts, max_size=4).map(tuple),
    grades=st.dictionaries(texts, st.dictionaries(texts, grades, max_size=3), max_size=4),
    request_body=st.binary(max_size=200),
    production_outcome=st.sampled_from(OUTCOMES),
    production_body=st.binary(max_size=200),
    production_duration_us=longs,
    production_cost_micro=longs,
    candidate_outcome=st.sampled_from(OUTCOMES),
    candidate_body=st.binary(max_size=200),
    candidate_duration_us=longs,
    candidate_cost_micro=longs,
)


def row(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


@given(pairs)
@settings(max_examples=300, deadline=None)
def test_the_bytes_are_those_of_another_writer(pair: GradedPair) -> None:
    """
    Every pair is written directly, to the bytes that the schema alone gives, and read back as it was.
    """
    by_role = {grader: {role: row(grade) for role, grade in found.items()} for grader, found in pair.grades.items()}
    expected = wire("GradedPair", {**row(pair), "slices": list(pair.slices), "grades": by_role})

    assert expected == encode(pair) == expected[:10] + pair_bytes(pair)
    assert pair == decode(expected)


def test_zeros_of_both_signs_are_kept_apart() -> None:
    """
    What is remembered of one value is never written for another that is equal to it.
    """
    for score in (0.0, -0.0, 1.0, 0.0):
        found = decode(encode(one(grades={"g": {"production": Grade("passed", score)}})))
        assert str(score) == str(found.grades["g"]["production"].score)


def one(**changed: Any) -> GradedPair:
    usual = row(
        GradedPair("r", "c", 0, 1, "id", "key", 0, ("all",), {}, b"", "answered", b"", 1, 2, "answered", b"", 3, 4)
    )
    return GradedPair(**{**usual, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"run": "\ud800"},
        {"run": None},
        {"run": b"r"},
        {"request_partition": 2**31},
        {"request_offset": -1},
        {"tile": 2**63},
        {"request_body": "text"},
        {"production_outcome": "fine"},
        {"candidate_outcome": []},
        {"slices": ("all", 1)},
        {"grades": {"g": {"production": Grade("good")}}},
        {"grades": {"g": {"production": Grade("passed", float("nan"))}}},
        {"grades": {"g": {"production": Grade("passed", None, None)}}},  # type: ignore[arg-type]
        {"grades": {1: {}}},
        {"grades": None},
    ],
    ids=str,
)
def test_what_cannot_be_read_back_is_refused(changed: dict[str, Any]) -> None:
    """
    A value that does not fit goes to the general writer, which refuses it in a sentence.
    """
    with pytest.raises(InvalidRecord):
        encode(one(**changed))


def test_a_list_of_slices_is_written() -> None:
    """
    What is unusual and sound is written too.
    """
    assert ("all", "x") == decode(encode(one(slices=["all", "x"]))).slices
