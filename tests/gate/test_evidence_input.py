"""Bad evidence is refused in one sentence that names the place (reliability.md, inputs 70 to 76)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.errors import Usage
from shadow.gate.evidence import evidence_from_json

GOOD = json.loads((Path(__file__).parent.parent / "evidence" / "promote-everything-proven.json").read_text())


def changed(path: str, value: Any) -> bytes:
    """The good document with one place changed; a value of ... removes it."""
    tree = json.loads(json.dumps(GOOD))
    *inner, last = path.split("/")
    place = tree
    for part in inner:
        place = place.setdefault(part, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(tree).encode()


RAW: list[tuple[str, bytes, str]] = [
    ("70 depth", b"[" * 100_000, "nested too deeply"),
    ("70 depth of objects", b'{"slices":' * 100_000, "nested too deeply"),
    ("71 NaN", b'{"log_sr": NaN}', "NaN"),
    ("71 Infinity", b'{"log_sr": Infinity}', "Infinity"),
    ("71 -Infinity", b'{"log_sr": -Infinity}', "-Infinity"),
    ("71 1e999", b'{"log_sr": 1e999}', "1e999"),
    ("72 5,000 digits", b'{"attempt": ' + b"9" * 5000 + b"}", "5,000 digits"),
    ("73 duplicate key", b'{"attempt": 1, "attempt": 2}', "'attempt' twice"),
    ("73 duplicate key inside", b'{"slices": {"all": {"pairs": 1, "pairs": 2}}}', "'pairs' twice"),
    ("74 lone surrogate", b'{"slices": {"\\ud800": {}}}', "lone surrogate"),
    ("74 lone surrogate as a value", b'{"attempt": "\\udfff"}', "lone surrogate"),
    ("75 2^53 + 1", b'{"window": {"pairs": 9007199254740993}}', "window.pairs"),
    ("75 1e400", b'{"window": {"pairs": 1e400}}', "1e400"),
    ("76 __proto__", b'{"slices": {"__proto__": {}}}', "'__proto__'"),
    ("76 empty key", b'{"slices": {"": {}}}', "the key ''"),
    ("76 key of a megabyte", b'{"' + b"k" * 2**20 + b'": 1}', "unknown key 'kkk"),
    ("not UTF-8", b'{"attempt": "\xff"}', "not UTF-8"),
    ("UTF-16", '{"attempt": 1}'.encode("utf-16"), "not UTF-8"),
    ("byte order mark", b"\xef\xbb\xbf{}", "not JSON"),
    ("empty", b"", "not JSON"),
    ("a list", b"[]", "an object"),
    ("null", b"null", "an object"),
    ("cut off", b'{"slices": {', "not JSON"),
    ("two documents", b"{} {}", "not JSON"),
    ("a comment", b"{} // fine", "not JSON"),
]


@pytest.mark.parametrize(("document", "told"), [(d, t) for _, d, t in RAW], ids=[name for name, _, _ in RAW])
def test_bytes_are_refused(document: bytes, told: str) -> None:
    """Bytes that are no strict JSON are refused with one short sentence."""
    with pytest.raises(Usage) as refused:
        evidence_from_json(document)
    message = str(refused.value)
    assert told in message
    assert "\n" not in message and len(message) < 400
    message.encode()


CHANGES: list[tuple[str, Any, str]] = [
    ("attempt", 0, "attempt"),
    ("attempt", True, "attempt"),
    ("attempt", "1", "attempt"),
    ("age_s", -1, "age_s"),
    ("freshness_s", "70", "freshness_s"),
    ("window/pairs", -1, "window.pairs"),
    ("window/pairs", 6001, "window"),
    ("window/hours", 24, "hours"),
    ("surprise", 1, "surprise"),
    ("slices/all/surprise", 1, "slices.all"),
    ("slices/all/pairs", 1.5, "slices.all.pairs"),
    ("slices/all/pairs", 10, "10 pairs in the slice"),
    ("slices/all/coverage", 1.01, "slices.all.coverage"),
    ("slices/All", {}, "'All'"),
    ("slices/all", [], "slices.all"),
    ("slices/all/missing/share", ..., "share"),
    ("slices/all/missing/size_ratio", -1, "size_ratio"),
    ("slices/all/graders/reward/both", -3, "slices.all.graders.reward.both is -3"),
    ("slices/all/graders/reward/both", 6000, "slices.all.graders.reward"),
    ("slices/all/graders/reward/neither", ..., "lacks neither"),
    ("slices/all/graders/re ward", {}, "re ward"),
    ("slices/all/rates/safe/violations", 6001, "slices.all.rates.safe has 6,001 violations but 6,000 answers"),
    ("slices/all/numeric/quality", [0] * 40, "a list of 40"),
    ("slices/all/numeric/quality", {"0": 1}, "a list of 41"),
    ("slices/all/numeric/quality", [0] * 40 + [-1], "quality[40]"),
    ("slices/all/cost/request/sum_cc", 1, "sum_cc is 1"),
    ("slices/all/cost/request/sum_cp", 10**12, "sum_cp"),
    ("slices/all/cost/request/n", 0, "its sums are not"),
    ("slices/all/cost/request/v", -1, "cost.request.v"),
    ("slices/all/cost/euros", {}, "euros"),
    ("slices/all/latency/total/0.95/production_slow", 3, "slices.all.latency.total.0.95"),
    ("slices/all/latency/total/0.95/max_ratio", 0, "max_ratio"),
    ("slices/all/latency/total/0.95/max_ratio", ..., "lacks max_ratio"),
    ("slices/all/latency/total/95", {}, "'95'"),
    (
        "slices/all/latency/total/0.0",
        {"candidate_only_slow": 0, "production_only_slow": 0, "n": 0, "max_ratio": 1},
        "0.0",
    ),
    ("slices/all/latency/last_byte", {}, "last_byte"),
    ("slices/all/reward_hacking/n", 3, "slices.all.reward_hacking"),
    ("slices/all/agreement", {"candidate_only_differs": 3, "baseline_only_differs": 3, "n": 5}, "agreement"),
    ("design_effect/all/reward", 0.5, "design_effect.all.reward is 0.5"),
    ("cells/all/reward", 129, "cells.all.reward"),
]


@pytest.mark.parametrize(("path", "value", "told"), CHANGES)
def test_one_wrong_place_is_named(path: str, value: Any, told: str) -> None:
    """One wrong number, key or type in good evidence is refused with its place."""
    with pytest.raises(Usage, match=r"^evidence") as refused:
        evidence_from_json(changed(path, value))
    assert told in str(refused.value)


def test_minus_zero_is_zero() -> None:
    """75: -0 is a whole number."""
    assert evidence_from_json(b'{"window": {"pairs": -0}}').window_pairs == 0


def test_sums_of_squares_may_pass_64_bits() -> None:
    """Large sums of money stay exact whole numbers."""
    sums = {"n": 1, "sum_c": 10**15, "sum_p": 1, "sum_cc": 10**30, "sum_pp": 1, "sum_cp": 10**15}
    document = json.dumps({"slices": {"all": {"pairs": 1, "cost": {"request": sums}}}}).encode()
    assert evidence_from_json(document).slices["all"].cost["request"].sum_cc == 10**30


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
paths = st.sampled_from([path for path, _, _ in CHANGES])


@given(paths, json_values)
def test_nothing_but_usage_is_raised(path: str, value: Any) -> None:
    """Whatever stands at any place, it is read, or refused with a sentence."""
    try:
        evidence_from_json(changed(path, value))
    except Usage as refused:
        assert str(refused)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(document: bytes) -> None:
    """No bytes lead to another exception."""
    try:
        evidence_from_json(document)
    except Usage as refused:
        assert str(refused)
