"""Inputs 70 to 76, 111 and 112 of the list of bad inputs: each ends in a grade, never in an exception."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shadow.bodies import NOT_JSON, json_of, strings_of
from shadow.graders import Graded
from shadow.graders.guard import checked, grade_safely, read_safely
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Grade
from tests.graders.answers import answer, grade, grader, request

EXPECTED = "json:$.metadata.answer"


def numeric(body: bytes, request_body: bytes = b'{"metadata":{"answer":5}}') -> Grade:
    return grade("numeric", body, to=request(request_body), expected=EXPECTED)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":['])
def test_input_70_deep_nesting(opening):
    """
    A hundred thousand brackets are no JSON, in the request and in the answer.
    """
    bomb = opening * 100_000

    assert NOT_JSON is json_of(bomb)
    assert NOT_APPLICABLE == numeric(b"<answer>5</answer>", bomb).outcome
    assert FAILED == numeric(bomb).outcome


def test_input_70_nesting_that_is_just_read():
    """
    A thousand levels are read, and walked without recursion.
    """
    assert "x" == strings_of(json_of(b"[" * 1000 + b'"x"' + b"]" * 1000))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_input_71_not_finite(number):
    """
    What is no finite number is no JSON, no expectation and no answer.
    """
    assert NOT_JSON is json_of(b'{"a":' + number + b"}")
    assert NOT_APPLICABLE == numeric(b"<answer>5</answer>", b'{"metadata":{"answer":' + number + b"}}").outcome
    assert BROKEN == numeric(b"<answer>5</answer>", b'{"metadata":{"answer":"' + number + b'"}}').outcome
    assert FAILED == numeric(b"<answer>" + number + b"</answer>").outcome


def test_input_72_integer_of_5000_digits():
    """
    A number of 5,000 digits is no number, and costs no time.
    """
    digits = b"1" * 5000

    assert FAILED == numeric(b"<answer>" + digits + b"</answer>").outcome
    assert NOT_APPLICABLE == numeric(b"<answer>5</answer>", b'{"metadata":{"answer":' + digits + b"}}").outcome
    assert BROKEN == numeric(b"<answer>5</answer>", b'{"metadata":{"answer":"' + digits + b'"}}').outcome
    assert FAILED == numeric(b"<answer>1e999999999</answer>").outcome
    assert FAILED == numeric(b"<answer>1e-999999999</answer>").outcome


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata":{"answer":4,"answer":5}}',
        b'{"metadata":{"answer":4},"metadata":{"answer":5}}',
        b'[{"a":1,"a":1}]',
        b'{"a":1,"\\u0061":2,"b":"\\u003a"}',
        b'{"a:b":1,"a:b":":"}',
    ],
)
def test_input_73_repeated_keys(body):
    """
    A key that stands twice makes a body no JSON: which of both counts would be a guess.
    """
    assert NOT_JSON is json_of(body)
    assert NOT_APPLICABLE == numeric(b"<answer>5</answer>", body).outcome


@pytest.mark.parametrize(
    "body",
    [b'{"a":1,"b":{"a":2}}', b'{"a:":":::","b":["c:d"]}', b'{"a":"\\u003a","b":"\\u003A:"}', b'{"a":{"b":{}}}', b"{}"],
)
def test_input_73_keys_that_only_look_repeated(body):
    """
    Colons inside of texts and equal keys of different objects are no repetition.
    """
    assert NOT_JSON is not json_of(body)


def test_input_74_lone_surrogate():
    """
    A lone surrogate is no JSON, and what goes out to a service or into the log can be encoded.
    """
    body = b'{"answer":"\\ud800"}'

    assert NOT_JSON is json_of(body)
    ask = grader("reward_model", url="http://reward/score").grade(answer(body, to=request(body)), None)
    assert body.decode() == ask.payload["answer"] == ask.payload["request"]
    text = answer(b"\xed\xa0\x80").text()
    assert text == text.encode().decode()
    checked(Grade(FAILED, None, "\ud800")).reason.encode()


def test_input_75_edges_of_numbers():
    """
    2^53 + 1 is not 2^53 where the tolerance is 0, minus zero is zero, and 1e400 is no number.
    """
    to = request({"metadata": {"answer": 2**53 + 1}})

    assert FAILED == grade("numeric", f"<answer>{2**53}</answer>", to=to, expected=EXPECTED, tolerance=0.0).outcome
    assert PASSED == grade("numeric", f"<answer>{2**53 + 1}</answer>", to=to, expected=EXPECTED, tolerance=0.0).outcome
    zero = request({"metadata": {"answer": 0}})
    assert PASSED == grade("numeric", "<answer>-0.0</answer>", to=zero, expected=EXPECTED).outcome
    assert FAILED == grade("numeric", "<answer>1e400</answer>", to=zero, expected=EXPECTED).outcome


def test_input_76_unusual_keys():
    """
    Keys such as `__proto__`, the empty one and one of a megabyte are keys like any other.
    """
    long_key = "k" * 1_000_000
    document = json_of(b'{"__proto__":{"answer":5},"":6,"' + long_key.encode() + b'":7}')

    assert {"__proto__": {"answer": 5}, "": 6, long_key: 7} == document
    to = request({"__proto__": {"answer": 5}, "": 6})
    assert PASSED == grade("numeric", "<answer>5</answer>", to=to, expected="json:$['__proto__'].answer").outcome
    assert PASSED == grade("numeric", "<answer>6</answer>", to=to, expected="json:$['']").outcome


def returns_nan(answer: Graded, other: Graded | None) -> Any:
    return float("nan")


def returns_infinity(answer: Graded, other: Graded | None) -> Any:
    return float("inf")


def returns_nothing(answer: Graded, other: Graded | None) -> Any:
    return None


def returns_a_huge_number(answer: Graded, other: Graded | None) -> Any:
    return 10**300


def returns_thousands_of_digits(answer: Graded, other: Graded | None) -> Any:
    return 10**100_000


def returns_a_dict(answer: Graded, other: Graded | None) -> Any:
    return {"outcome": "passed"}


def returns_another_outcome(answer: Graded, other: Graded | None) -> Any:
    return Grade("excellent")


def returns_a_list_as_outcome(answer: Graded, other: Graded | None) -> Any:
    return Grade([])  # type: ignore[arg-type]


def returns_a_score_that_is_nan(answer: Graded, other: Graded | None) -> Any:
    return Grade(PASSED, float("nan"))


def returns_a_score_above_one(answer: Graded, other: Graded | None) -> Any:
    return Grade(PASSED, 2)


def returns_a_reason_that_is_no_text(answer: Graded, other: Graded | None) -> Any:
    return Grade(PASSED, None, b"bytes")  # type: ignore[arg-type]


def raises(answer: Graded, other: Graded | None) -> Any:
    raise KeyError("key")


def exits(answer: Graded, other: Graded | None) -> Any:
    raise SystemExit(3)


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def raises_without_words(answer: Graded, other: Graded | None) -> Any:
    raise _Unspeakable


def recurses(answer: Graded, other: Graded | None) -> Any:
    return recurses(answer, other)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (returns_nan, "tests.graders.test_inputs:returns_nan returned nan, must be a Grade, a bool or a score"),
        (returns_infinity, "returned inf"),
        (returns_nothing, "returned nothing"),
        (returns_a_huge_number, "returned a number of 997 bits"),
        (returns_thousands_of_digits, "returned a number of 332,193 bits"),
        (returns_a_dict, "returned a dict"),
        (returns_another_outcome, "the grader's outcome is none of passed, failed, not_applicable, broken"),
        (returns_a_list_as_outcome, "the grader's outcome is none of"),
        (returns_a_score_that_is_nan, "the grader's score is outside [0, 1]"),
        (returns_a_score_above_one, "the grader's score is outside [0, 1]"),
        (returns_a_reason_that_is_no_text, "the grader's reason is a bytes, must be a text"),
        (raises, "KeyError: 'key'"),
        (exits, "SystemExit: 3"),
        (raises_without_words, "_Unspeakable"),
        (recurses, "RecursionError"),
    ],
)
def test_input_111_unsound_grades(function, reason):
    """
    Whatever a foreign function returns or raises is a broken grade that says so.
    """
    found = grade_safely(grader("python", callable=f"{__name__}:{function.__name__}"), answer(), None)

    assert isinstance(found, Grade)
    assert (BROKEN, None) == (found.outcome, found.score)
    assert reason in found.reason


def says_yes(answer: Graded, other: Graded | None) -> Any:
    return True


def scores(answer: Graded, other: Graded | None) -> Any:
    return 0.25 if other is None else 1


def explains(answer: Graded, other: Graded | None) -> Any:
    return Grade(FAILED, 1, "a\n" + "b" * 1000)


def test_input_111_sound_grades():
    """
    A bool, a score and a grade are taken, long reasons cut to one line of 300 characters.
    """
    module = __name__
    other = answer(role="production")

    assert Grade(PASSED) == grade_safely(grader("python", callable=f"{module}:says_yes"), answer(), None)
    scored = grader("python", callable=f"{module}:scores", passes_at=0.5)
    assert (FAILED, 0.25) == ((low := grade_safely(scored, answer(), None)).outcome, low.score)
    assert (PASSED, 1.0) == ((high := grade_safely(scored, answer(), other)).outcome, high.score)
    explained = grade_safely(grader("python", callable=f"{module}:explains"), answer(), None)
    assert Grade(FAILED, 1.0, "a " + "b" * 297 + "…") == explained


def test_input_111_replies_are_read_safely():
    """
    A grader that asks nothing and is given a reply all the same answers with a broken grade.
    """
    assert BROKEN == read_safely(grader("status"), b"{}").outcome


KINDS: dict[str, dict[str, Any]] = {
    "status": {},
    "exact": {},
    "contains": {"any": ("a",)},
    "regex": {"pattern": "a"},
    "numeric": {},
    "answer_tag": {},
    "concise": {"max_words": 5},
    "cites_version_pin": {"package": "p"},
    "no_deprecated_api": {"names": ("n",)},
    "safety": {"deny": ("a",)},
    "latency": {"max_us": 5},
    "cost": {"max_micro": 5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_input_112_both_empty(kind):
    """
    Two empty answers get the same grade from every grader.
    """
    found = grader(kind, **KINDS[kind])
    production, candidate = answer(b"", role="production"), answer(b"")

    assert grade_safely(found, production, None).outcome == grade_safely(found, candidate, production).outcome


@pytest.mark.parametrize("kind", KINDS)
def test_input_112_equal_bytes_with_other_headers(kind):
    """
    Headers that only name things differently change no grade.
    """
    found = grader(kind, **KINDS[kind])
    production = answer(b"a p==1 <answer>5</answer>", role="production", headers={"content-type": "text/plain"})
    candidate = answer(b"a p==1 <answer>5</answer>", headers={"content-type": "application/json", "server": "x"})

    assert grade_safely(found, production, None).outcome == grade_safely(found, candidate, production).outcome


@pytest.mark.parametrize("kind", KINDS)
def test_input_113_ten_megabytes(kind):
    """
    Two answers of ten megabytes that differ in one place are graded in bounded time.
    """
    found = grader(kind, **KINDS[kind])
    production, candidate = answer(b"x " * 5_000_000, role="production"), answer(b"x " * 4_999_999 + b"y ")

    began = time.process_time()
    grade_safely(found, candidate, production)

    assert time.process_time() - began < 10
