"""Slices: which requests are in one, and in which of them a pair counts."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.patterns import InvalidPattern
from shadow.records.slices import SliceSpec
from shadow.stream.slice import Slicer, countable
from tests.graders.answers import request

MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "My Search API fails"}, {"content": ["x", 3]}]}


def is_in(spec: SliceSpec, to) -> bool:
    found = Slicer([spec]).slices_of(to)
    assert "all" == found[0]
    return found == ("all", spec.name)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SliceSpec("s", text="(?i)search api"), True),
        (SliceSpec("s", text="search api"), False),
        (SliceSpec("s", text="^user$"), False),
        (SliceSpec("s", text="(?m)^user$"), True),
        (SliceSpec("s", text="(?m)^x$"), True),
        (SliceSpec("s", text="messages"), False),
        (SliceSpec("s", path="^/v1/"), True),
        (SliceSpec("s", path="^/v2/"), False),
        (SliceSpec("s", key="^k"), True),
        (SliceSpec("s", key="^x"), False),
        (SliceSpec("s", headers={"X-Tenant": "^gold"}), True),
        (SliceSpec("s", headers={"x-tenant": "silver"}), False),
        (SliceSpec("s", headers={"x-region": ""}), False),
        (SliceSpec("s", json={"$.model": "m"}), True),
        (SliceSpec("s", json={"$.model": ["n", "m"]}), True),
        (SliceSpec("s", json={"$.model": ["n"]}), False),
        (SliceSpec("s", json={"$.messages[0].role": "user"}), True),
        (SliceSpec("s", json={"$.messages[1].content[-1]": 3}), True),
        (SliceSpec("s", json={"$.messages[1].content[1]": True}), False),
        (SliceSpec("s", json={"$.messages[*].role": "user"}), True),
        (SliceSpec("s", json={"$..content": "My Search API fails"}), True),
        (SliceSpec("s", json={"$.messages[?@.role == 'user'].content": "other"}), False),
        (SliceSpec("s", json={"$.nothing": None}), False),
        (SliceSpec("s", text="(?i)search", path="^/v1/", json={"$.model": "m"}), True),
        (SliceSpec("s", text="(?i)search", path="^/v2/", json={"$.model": "m"}), False),
        (SliceSpec("s"), True),
    ],
)
def test_conditions(spec, expected):
    """
    All conditions of a slice must hold: of the strings of the body, path, key, headers and JSON values.
    """
    assert expected == is_in(spec, request(MESSAGES, x_tenant="gold-1"))


def test_order_is_that_of_the_configuration():
    """
    A request is in several slices at once, named in the configuration's order behind `all`.
    """
    specs = [
        SliceSpec("z", text="API"),
        SliceSpec("n", text="nothing"),
        SliceSpec("a", path="v1"),
        SliceSpec("m", text="My"),
    ]

    assert ("all", "z", "a", "m") == Slicer(specs).slices_of(request(MESSAGES))
    assert ("all",) == Slicer([]).slices_of(request(MESSAGES))


def test_true_is_not_one():
    """
    JSON's true and 1 are different values, 8 and 8.0 are not.
    """
    to = request({"t": True, "one": 1, "eight": 8.0, "null": None})

    assert not is_in(SliceSpec("s", json={"$.t": 1}), to)
    assert not is_in(SliceSpec("s", json={"$.one": True}), to)
    assert is_in(SliceSpec("s", json={"$.eight": 8}), to)
    assert is_in(SliceSpec("s", json={"$.null": None}), to)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a headache", True),
        (b'{"a": "headache"', True),
        (b'{"a": 1, "a": "headache"}', True),
        (b'{"a": NaN, "b": "headache"}', True),
        (b"[" * 5000 + b'"headache"', True),
        (b"\xff headache", True),
        ("headache".encode("utf-16"), True),
        (b'{"headache": 1}', False),
        (b'{"a": "head\\u0061che"}', True),
        (b"", False),
    ],
)
def test_text_of_what_is_no_json(body, expected):
    """
    A body that is no sound JSON is searched as it is; of JSON only the strings are, without keys.
    """
    assert expected == is_in(SliceSpec("s", text="headache"), request(body))


def test_unsound_json_has_no_fields():
    """
    A condition on a field never holds where the body repeats a key.
    """
    assert not is_in(SliceSpec("s", json={"$.a": 2}), request(b'{"a":1,"a":2}'))


def test_compressed_requests_are_read():
    """
    The proxy records bodies as they came, so a slice inflates them, up to a bound.
    """
    spec = SliceSpec("s", text="headache", json={"$.a": "a headache"})

    assert is_in(spec, request(gzip.compress(b'{"a":"a headache"}'), content_encoding="gzip"))
    assert not is_in(spec, request(gzip.compress(bytes(50 << 20)), content_encoding="gzip"))


def test_only_the_first_64_kib_are_searched():
    """
    The text is cut, so that no request costs more than any other.
    """
    assert is_in(SliceSpec("s", text="needle"), request({"a": "x" * 65_000 + "needle"}))
    assert not is_in(SliceSpec("s", text="needle"), request({"a": "x" * 66_000 + "needle"}))


def test_input_99_exponential_patterns_are_linear():
    """
    A pattern that holds Python's own engine for hours is searched at once.
    """
    assert not is_in(SliceSpec("s", text="(a+)+$"), request({"a": "a" * 60_000 + "b"}))


def test_64_slices_in_one_pass():
    """
    Each of 64 patterns is found for itself.
    """
    slicer = Slicer([SliceSpec(f"s{i}", text=rf"(?i)\bword{i}\b") for i in range(64)])

    assert ("all", "s3", "s63") == slicer.slices_of(request({"a": "WORD3 and word63, word64"}))


def test_patterns_that_are_too_large_together_are_refused():
    """
    Patterns that RE2 takes one by one and not together are refused when the slices are made.
    """
    with pytest.raises(InvalidPattern, match="64 patterns together must not need more than 8 MiB"):
        Slicer([SliceSpec(f"s{i}", text=rf"(?:[a-z]{{20}}|\pL{{10}}){{9}}x{i}") for i in range(64)])


def test_slices_before_the_key_is_known():
    """
    The proxy asks with method, path, headers and body; `all` and slices by key are not among the answers.
    """
    slicer = Slicer([SliceSpec("t", text="API"), SliceSpec("k", key=""), SliceSpec("p", path="v2")])

    assert frozenset({"t"}) == slicer.slices_of_request("POST", "/v1/chat", {}, b'{"a":"API"}')


@pytest.mark.parametrize(
    ("u", "counted"),
    [(0.1, ("all", "rare", "plain", "lower")), (0.2, ("rare",)), (0.5, ("rare",)), (0.9, ()), (0.95, ())],
)
def test_countable(u, counted):
    """
    A pair counts where u is under the slice's rate, in `all` only under the base rate: bounds are exclusive.
    """
    #  0     0.2            0.9   1
    #  |-all-|
    #  |------ rare --------|
    slices = ("all", "rare", "plain", "lower")

    assert counted == countable(slices, u, 0.2, {"rare": 0.9, "lower": 0.1})


@given(st.binary(max_size=300), st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_never_raises(body, path, key):
    """
    Whatever a request contains, it has slices.
    """
    slicer = Slicer(
        [SliceSpec("t", text="a"), SliceSpec("p", path="a", key="b"), SliceSpec("j", json={"$.a": 1, "$..b": [1, "x"]})]
    )

    assert "all" == slicer.slices_of(request(body, path=path, key=key, content_encoding="gzip"))[0]
