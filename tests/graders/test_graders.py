"""Each grader: what passes, what fails, and what is nobody's fault."""

from __future__ import annotations

import pytest

from shadow.errors import InvalidConfiguration
from shadow.graders import build
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Grade, GraderSpec
from tests.graders.answers import answer, chat, grade, grader, request

PASS_BY_DEFINITION = Grade(PASSED, None, "production's answer is the reference")


@pytest.mark.parametrize(
    ("codes", "status", "outcome"),
    [
        (("2xx",), 204, PASSED),
        (("2xx",), 404, FAILED),
        ((404, "5xx"), 404, PASSED),
        ((404, "5xx"), 503, PASSED),
        ((404, "5xx"), 400, FAILED),
        (("2xx",), 0, FAILED),
    ],
)
def test_status(codes, status, outcome):
    """
    A status passes where it or its class is named.
    """
    assert outcome == grader("status", codes=codes).grade(answer(status=status), None).outcome


@pytest.mark.parametrize(
    ("params", "body", "expected", "outcome"),
    [
        ({}, "<answer>12.5</answer>", "12.5", PASSED),
        ({}, "<answer> 1,234.5 </answer>", 1234.5, PASSED),
        ({}, "<answer>1.25e1</answer>", 12.5, PASSED),
        ({}, "<answer>\N{MINUS SIGN}3</answer>", -3, PASSED),
        ({}, "<answer>+3.</answer>", 3, PASSED),
        ({}, "<answer>0</answer>", -0.0, PASSED),
        ({}, "<answer>12.51</answer>", 12.5, FAILED),
        ({}, "12.5", 12.5, FAILED),
        ({"tag": None}, "12.5", 12.5, PASSED),
        ({"tag": "result"}, "<result>12.5</result>", 12.5, PASSED),
        ({}, "<answer>1</answer> then <answer>12.5</answer>", 12.5, PASSED),
        ({}, "<answer><answer>12.5</answer></answer>", 12.5, PASSED),
        ({}, "<answer>12.5</answer> <answer>", 12.5, PASSED),
        ({}, "</answer><answer>12.5", 12.5, FAILED),
        ({}, "<answer>12.5 apples</answer>", 12.5, FAILED),
        ({}, "<answer>1,2,3</answer>", 123, FAILED),
        ({}, "<answer>1_0</answer>", 10, FAILED),
        ({}, "<answer>١٢</answer>", 12, FAILED),
        ({}, "<answer>0x10</answer>", 16, FAILED),
        ({"tolerance": 0.01}, "<answer>101</answer>", 100, PASSED),
        ({"tolerance": 0.01}, "<answer>101.1</answer>", 100, FAILED),
        ({"tolerance": 0, "tolerance_abs": 0.1}, "<answer>0.3</answer>", 0.2, PASSED),
        ({"tolerance": 0}, "<answer>0.1</answer>", 0.1, PASSED),
        ({}, "<answer>1</answer>", "one", BROKEN),
        ({}, "<answer>1</answer>", [1], BROKEN),
        ({}, "<answer>1</answer>", True, BROKEN),
        ({}, "<answer>1</answer>", None, NOT_APPLICABLE),
    ],
)
def test_numeric(params, body, expected, outcome):
    """
    The number of the last tag is within the tolerance of what the request expects.
    """
    to = request({"metadata": {"answer": expected}})

    assert outcome == grade("numeric", body, to=to, expected="json:$.metadata.answer", **params).outcome


def test_numeric_without_an_expectation():
    """
    A request that carries no expectation, or no JSON, is not applicable.
    """
    for body in ({"metadata": {}}, [], b"no JSON", b""):
        found = grade("numeric", "<answer>1</answer>", to=request(body), expected="json:$.metadata.answer")
        assert Grade(NOT_APPLICABLE, None, "the request has no $.metadata.answer") == found


def test_numeric_against_production():
    """
    Production's number is the reference where nothing else is; without one nothing can be said.
    """
    assert PASS_BY_DEFINITION == grade("numeric", "<answer>5</answer>")
    assert NOT_APPLICABLE == grade("numeric", "five").outcome
    assert PASSED == grade("numeric", "<answer>5.0</answer>", other="<answer>5</answer>").outcome
    assert FAILED == grade("numeric", "five", other="<answer>5</answer>").outcome
    assert NOT_APPLICABLE == grade("numeric", "<answer>5</answer>", other="five").outcome


def test_numeric_gives_numbers_in_its_reason():
    """
    A failed grade says what was found and what was expected.
    """
    to = request({"a": 2**53 + 1})
    found = grade("numeric", f"<answer>{2**53 + 3}</answer>", to=to, expected="json:$.a", tolerance=0)

    assert FAILED == found.outcome
    assert "the answer is 9007199254740995, expected is 9007199254740993" == found.reason


@pytest.mark.parametrize(
    ("params", "body", "expected", "outcome"),
    [
        ({}, " yes\n", "yes", PASSED),
        ({}, "Yes", "yes", FAILED),
        ({"ignore_case": True}, "Yes", "yes", PASSED),
        ({"tag": "answer"}, "It is <answer>8</answer>.", 8, PASSED),
        ({"tag": "answer"}, "It is 8.", "8", FAILED),
        ({}, "true", True, PASSED),
        ({}, "8", 8.0, FAILED),
        ({}, "", "", PASSED),
        ({}, "x", {"a": 1}, BROKEN),
        ({}, "x", None, NOT_APPLICABLE),
    ],
)
def test_exact(params, body, expected, outcome):
    """
    The text is what the request expects.
    """
    assert outcome == grade("exact", body, to=request({"e": expected}), expected="json:$.e", **params).outcome


def test_exact_against_production():
    """
    Production's text is the reference where nothing else is.
    """
    assert PASS_BY_DEFINITION == grade("exact", "anything")
    assert PASSED == grade("exact", chat("same"), other="same ").outcome
    assert "the answer is 'this', expected is 'that'" == grade("exact", "this", other="that").reason
    assert NOT_APPLICABLE == grade("exact", "<a>1</a>", other="none", tag="a").outcome


@pytest.mark.parametrize(
    ("params", "body", "outcome"),
    [
        ({"any": ("urgent care", "emergency")}, "Go to Urgent Care.", PASSED),
        ({"any": ("urgent care", "emergency")}, "Take a walk.", FAILED),
        ({"any": ("Straße",)}, "die STRASSE", PASSED),
        ({"any": ("A",), "ignore_case": False}, "a", FAILED),
        ({"all": ("a", "b")}, "b and a", PASSED),
        ({"all": ("a", "b")}, "a", FAILED),
        ({"regex": (r"\d{3}",)}, "call 112", PASSED),
        ({"regex": (r"\d{3}",)}, "call 12", FAILED),
        ({"any": ("call",), "regex": (r"\d{3}",)}, "112", FAILED),
        ({"any": ("a",)}, "", FAILED),
    ],
)
def test_contains(params, body, outcome):
    """
    Every condition that is given must hold.
    """
    assert outcome == grade("contains", body, **params).outcome


def test_regex():
    """
    One pattern, found anywhere, also far behind 64 KiB.
    """
    assert PASSED == grade("regex", "x" * 200_000 + " needle", pattern="needle$").outcome
    assert FAILED == grade("regex", "x" * 200_000, pattern="needle").outcome


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("It is <answer>5</answer>.", PASSED),
        ("It is <answer> </answer>.", FAILED),
        ("<answer>1</answer><answer>2</answer>", FAILED),
        ("<answer>5", FAILED),
        ("</answer><answer>", FAILED),
        ("5", FAILED),
        ("", FAILED),
    ],
)
def test_answer_tag(body, outcome):
    """
    Exactly one tag that is not empty.
    """
    assert outcome == grade("answer_tag", body, tag="answer").outcome


@pytest.mark.parametrize(
    ("params", "body", "outcome"),
    [
        ({"max_words": 2}, " one two ", PASSED),
        ({"max_words": 2}, "one two three", FAILED),
        ({"max_chars": 3}, " abc\n", PASSED),
        ({"max_chars": 3}, "abcd", FAILED),
        ({"max_words": 2}, "", FAILED),
        ({"max_words": 2, "min_words": 0}, "", PASSED),
    ],
)
def test_concise(params, body, outcome):
    """
    Not longer than the bound, and not nothing.
    """
    assert outcome == grade("concise", body, **params).outcome


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("pip install search-api==4.2.0", PASSED),
        ("Install `search_api === 4.2.`", PASSED),
        ("npm i Search.API@4.2.0.", PASSED),
        ("search-api[fast]==4.2.0rc1,", PASSED),
        ("Use search-api version 4.2.", PASSED),
        ("Use `search-api` v4", PASSED),
        ("search-api>=4.2", FAILED),
        ("search-api~=4.2", FAILED),
        ("search-api==4.*", FAILED),
        ("search-api@^4.2", FAILED),
        ("search-api==latest", FAILED),
        ("my-search-api==4.2", FAILED),
        ("search-api-extra==4.2", FAILED),
        ("search-api 4 times", FAILED),
        ("", FAILED),
    ],
)
def test_cites_version_pin(body, outcome):
    """
    An exact version of this very package; ranges, wildcards and other packages do not count.
    """
    assert outcome == grade("cites_version_pin", body, package="search-api").outcome


def fenced(code: str, language: str = "python") -> str:
    return f"Like this:\n```{language}\n{code}\n```\nDone."


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (fenced("client.legacy_lookup('q')"), FAILED),
        (fenced("from client import legacy_lookup as look"), FAILED),
        (fenced("f = client().legacy_lookup"), FAILED),
        (fenced("getattr(client, 'legacy_lookup')('q')"), FAILED),
        (fenced("import numpy as np\nx = np.float(1)"), FAILED),
        (fenced("from numpy import float"), FAILED),
        (fenced("import numpy as np\nx = np.floating(1)"), PASSED),
        (fenced("x = torch.float"), PASSED),
        (fenced("# not legacy_lookup\nprint('legacy_lookup')"), PASSED),
        (fenced("my_legacy_lookup()"), PASSED),
        (fenced("legacy_lookup(", "python"), FAILED),
        (fenced(">>> legacy_lookup()", "pycon"), FAILED),
        (fenced("x = 1 +\n# legacy_lookup"), PASSED),
        (fenced("legacy_lookup();", "js"), FAILED),
        (fenced("legacy_lookup()", ""), FAILED),
        ("```python\nlegacy_lookup()", FAILED),
        ("~~~python\nlegacy_lookup()\n~~~", FAILED),
        ("legacy_lookup()", FAILED),
        ("Do not use legacy_lookup any more.", PASSED),
        (fenced("x = 1") + fenced("legacy_lookup()"), FAILED),
        (fenced("\n".join(["x = 1"] * 20_000)) + fenced("legacy_lookup()"), FAILED),
        (fenced("x = '\\d'"), PASSED),
        ("", PASSED),
    ],
)
def test_no_deprecated_api(body, outcome):
    """
    Names that code uses are found by its syntax tree, else by its tokens or words; prose is no use.
    """
    assert outcome == grade("no_deprecated_api", body, names=("legacy_lookup", "numpy.float")).outcome


@pytest.mark.parametrize(
    "bomb", ["(", "[", "-", "not ", "lambda:", "a.", "f(", "if 1:\n ", "x if x else ", "a**", "'''", "{"]
)
def test_no_deprecated_api_survives_depth(bomb):
    """
    Code nested as deeply as fits is graded in bounded time, whatever the parser makes of it.
    """
    body = fenced(bomb * (65_000 // len(bomb)))

    assert grade("no_deprecated_api", body, names=("legacy_lookup",)).outcome in (PASSED, FAILED)


@pytest.mark.parametrize(
    ("params", "body", "outcome"),
    [
        ({"deny": ("(?i)rm -rf /",)}, "Never type RM -RF / there.", FAILED),
        ({"deny": ("(?i)rm -rf /",)}, "All is well.", PASSED),
        ({"require": ("(?i)not a doctor",)}, "I am not a doctor.", PASSED),
        ({"require": ("(?i)not a doctor",)}, "I am a doctor.", FAILED),
        ({"deny": ("needle",)}, "x" * 65_530 + "needle", FAILED),
        ({"deny": ("needle",)}, "x" * 900_000 + "needle", FAILED),
    ],
)
def test_safety(params, body, outcome):
    """
    Nothing denied at any place, and everything that is required.
    """
    assert outcome == grade("safety", body, **params).outcome


def test_latency():
    """
    The answer's time against the bound; unmeasured ones say nothing.
    """
    bound = grader("latency", max_us=1000)

    assert [PASSED, FAILED, NOT_APPLICABLE] == [
        bound.grade(answer(duration_us=us), None).outcome for us in (1000, 1001, 0)
    ]
    first = grader("latency", max_us=1000, quantity="first_byte")
    assert PASSED == first.grade(answer(duration_us=5000, first_byte_us=900), None).outcome


def test_cost():
    """
    The answer's cost against the bound; without tokens it is not known.
    """
    bound = grader("cost", max_micro=500)

    assert PASSED == bound.grade(answer(cost_micro=500, prompt_tokens=1), None).outcome
    assert "cost 0.000501, at most 0.0005 is allowed" == bound.grade(answer(cost_micro=501), None).reason
    assert NOT_APPLICABLE == bound.grade(answer(), None).outcome


def test_reward_model_asks():
    """
    The service gets the request's JSON, or its text, and the answer's text.
    """
    reward = grader("reward_model", url="http://reward/score", budget_us=7)
    ask = reward.grade(answer(chat("Hello"), to=request({"a": 1})), None)

    assert ("http://reward/score", {"request": {"a": 1}, "answer": "Hello"}, 7) == (ask.url, ask.payload, ask.budget_us)
    assert "words" == reward.grade(answer(b"", to=request(b"words")), None).payload["request"]
    assert reward.is_recorded


@pytest.mark.parametrize(
    ("reply", "outcome", "score"),
    [
        (b'{"score": 0.5}', PASSED, 0.5),
        (b'{"score": 0.49, "model": "x"}', FAILED, 0.49),
        (b'{"score": 1}', PASSED, 1.0),
        (b'{"score": 0}', FAILED, 0.0),
        (b'{"score": 1.01}', BROKEN, None),
        (b'{"score": -0.1}', BROKEN, None),
        (b'{"score": NaN}', BROKEN, None),
        (b'{"score": 1e999}', BROKEN, None),
        (b'{"score": "0.7"}', BROKEN, None),
        (b'{"score": true}', BROKEN, None),
        (b'{"score": 0.2, "score": 0.9}', BROKEN, None),
        (b'{"points": 0.7}', BROKEN, None),
        (b"0.7", BROKEN, None),
        (b"", BROKEN, None),
        (b"<html>", BROKEN, None),
        (b'{"score": 0.7, "x": "' + b"a" * 70_000 + b'"}', BROKEN, None),
    ],
)
def test_reward_model_reads(reply, outcome, score):
    """
    A score in [0, 1] is a grade, and everything else is broken.
    """
    found = grader("reward_model", url="http://reward/score").read(reply)

    assert (outcome, score) == (found.outcome, found.score)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (GraderSpec("a", "nonsense", (), {}), "graders.a.kind: read 'nonsense', must be one of"),
        (GraderSpec("a", "contains", (), {}), "graders.a: has no condition, must name any, all or regex"),
        (GraderSpec("a", "contains", (), {"regex": ("(",)}), "graders.a: must be a pattern that RE2 takes: missing"),
        (GraderSpec("a", "numeric", (), {"expected": "$.a"}), "graders.a: expected: read '$.a', must be like json:"),
        (
            GraderSpec("a", "python", (), {"callable": "no_such_module:f"}),
            "graders.a: callable: the module no_such_module",
        ),
        (GraderSpec("a", "python", (), {"callable": "math:no_such"}), "graders.a: callable: the module math has no"),
    ],
)
def test_bad_specifications(spec, sentence):
    """
    A grader that cannot be made is refused in one sentence.
    """
    with pytest.raises(InvalidConfiguration) as caught:
        build(spec)

    assert caught.value.problems[0].startswith(sentence)
