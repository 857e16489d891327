"""Rows of training data: their columns, what they say, and when they are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.records.comparisons import CANDIDATE_HUMAN, CANDIDATE_PRODUCTION
from shadow.records.grades import FAILED, PASSED
from shadow.training.card import card_tree, features
from shadow.training.judged import judged
from shadow.training.rows import (
    FORMATS,
    MESSAGES,
    NO_ANSWER,
    NO_PREFERENCE,
    NO_RIGHT_ANSWER,
    PAIRS,
    PREFERENCE,
    SAME_ANSWERS,
    SFT,
    digest_of,
    row_of,
    superseded,
)
from shadow.training.texts import LeftOut
from tests.training.builders import GRADERS, SOURCE, chat, completion, pair_of, pairs

USER = [{"role": "user", "content": "twice 2?"}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def row(pair, format):
    return row_of(pair, judged(pair, GRADERS), SOURCE, format)


def fits(value: Any, feature: dict[str, Any]) -> bool:
    """Whether a value is of the type that the card says."""
    if "list" in feature:
        return isinstance(value, list) and all(fits_struct(item, feature["list"]) for item in value)
    if "struct" in feature:
        return fits_struct(value, feature["struct"])
    if "sequence" in feature:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    kind = {"string": str, "int64": int, "float64": (float, type(None))}[feature["dtype"]]
    return isinstance(value, kind)


def fits_struct(value: Any, fields: list[dict[str, Any]]) -> bool:
    names = [field["name"] for field in fields]
    return names == list(value) and all(fits(value[field["name"]], field) for field in fields)


@given(pairs(), st.sampled_from(FORMATS))
@settings(max_examples=150, deadline=None)
def test_every_row_has_the_columns_of_its_card(pair, format):
    """
    Same columns, same order, same types in every row of a format, whatever the pair: Arrow takes nothing else.
    """
    try:
        found = row(pair, format)
    except LeftOut:
        assert format != PAIRS, "every pair gives a row of pairs"
        return
    assert fits_struct(found, features(format))
    assert found == json.loads(json.dumps(found, allow_nan=False))


def test_a_corrected_pair_in_every_format():
    """
    The person's answer is the completion, the chosen one, and stands beside the candidate's.
    """
    pair = pair_of(7, human=True, production_body=b"4, says Ada")
    assert (USER, assistant("4, says Ada")) == (row(pair, SFT)["prompt"], row(pair, SFT)["completion"])
    assert USER + assistant("4, says Ada") == row(pair, MESSAGES)["messages"]
    preference = row(pair, PREFERENCE)
    assert (assistant("4, says Ada"), assistant("5")) == (preference["chosen"], preference["rejected"])
    assert ("human", "4, says Ada", "5") == tuple(
        row(pair, PAIRS)[name] for name in ("reference_role", "reference", "candidate")
    )


def test_a_row_says_where_it_comes_from():
    """
    Run, configuration, versions, position, graders with their versions, and who preferred what.
    """
    found = row(pair_of(7, slices=("all", "even")), PREFERENCE)
    assert {
        "run": "candidate-00000000-1",
        "configuration": "0" * 64,
        "production": "v1",
        "candidate": "v2",
        "comparison": "candidate-production",
        "request_id": "request-7",
        "partition": 0,
        "offset": 7,
        "prompt_from": "messages",
        "answer_of": "production",
        "preferred": "production",
        "preferred_by": "correct",
    } == found["provenance"]
    assert [("correct", "numeric/1", "candidate", "failed"), ("correct", "numeric/1", "production", "passed")] == [
        (grade["grader"], grade["version"], grade["role"], grade["outcome"]) for grade in found["grades"]
    ]
    assert ["all", "even"] == found["slices"]


@pytest.mark.parametrize(
    ("pair", "format", "reason"),
    [
        (pair_of(graded={"correct": (PASSED, PASSED)}), PREFERENCE, NO_PREFERENCE),
        (pair_of(candidate_outcome="timeout"), PREFERENCE, NO_ANSWER),
        (pair_of(candidate_body=completion("4")), PREFERENCE, SAME_ANSWERS),
        (pair_of(graded={"correct": (FAILED, FAILED)}), SFT, NO_RIGHT_ANSWER),
        (pair_of(human=True, production_outcome="error"), SFT, NO_ANSWER),
    ],
    ids=["no-preference", "time-out", "same-answers", "both-wrong", "no-person"],
)
def test_what_teaches_nothing_is_left_out(pair, format, reason):
    """
    Each with the reason that the command counts.
    """
    with pytest.raises(LeftOut, match=reason):
        row(pair, format)


@pytest.mark.parametrize("format", FORMATS)
def test_rows_are_the_same_by_what_they_say(format):
    """
    Another request with the same prompt and answers is the same row; another answer or prompt is another one.
    """
    same, again = digest_of(row(pair_of(1), format), format), digest_of(row(pair_of(2), format), format)
    assert same == again
    for other in (pair_of(1, production_body=completion("four")), pair_of(1, request_body=chat("twice 2 please?"))):
        assert same != digest_of(row(other, format), format)


def test_a_person_supersedes_where_an_answer_is_learned():
    """
    Two preferences over one request may both be right; two answers to learn may contradict each other.
    """
    both = (CANDIDATE_HUMAN, CANDIDATE_PRODUCTION)
    assert {CANDIDATE_PRODUCTION} == superseded(SFT, both) == superseded(MESSAGES, both)
    assert set() == superseded(PREFERENCE, both) | superseded(PAIRS, both) | superseded(SFT, (CANDIDATE_PRODUCTION,))


def test_the_card_names_the_file():
    """
    `load_dataset` on the folder finds the data, and nothing else in it.
    """
    assert [{"split": "train", "path": "train.jsonl"}] == card_tree(SFT, "train.jsonl")["configs"][0]["data_files"]
