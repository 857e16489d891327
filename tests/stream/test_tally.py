"""Pairs are counted by kind and spread later: the integers are those of counting each pair by itself."""

from __future__ import annotations

from collections import Counter
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.records import rows
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Grade
from shadow.records.policy import Cap, Cost, Floor, Latency, NoRegression, NoRewardHacking, Quality
from shadow.records.tallies import Key, Tally
from shadow.stream.tally import Counted, Side, Tallier, uniform

GRADERS = ("a", "b", "c")
RULES = (
    Quality({"a": 1.0, "b": 2.0, "c": 4.0}),
    Quality({"a": 1.0}, slice="x"),
    NoRegression("a", slice="x"),
    Cap("b", max=0.1),
    Floor("c", min=0.5, slice="y"),
    Latency(reference_us=500, quantile=0.9),
    Latency(0.5, 1.5, "first_byte", slice="x"),
    Cost(),
    Cost(basis="tokens", slice="y"),
    NoRewardHacking("a", ("b", "c")),
)

outcomes = st.sampled_from([PASSED, FAILED, BROKEN, NOT_APPLICABLE])
sides = st.builds(
    Side,
    outcome=st.sampled_from(["answered", "answered", "timeout", "error"]),
    duration_us=st.integers(0, 2000),
    first_byte_us=st.integers(0, 900),
    cost_micro=st.integers(0, 2**40),
    tokens=st.integers(0, 2**20),
)
pairs = st.tuples(
    st.builds(
        Counted,
        slices=st.sampled_from([("all",), ("all", "x"), ("all", "x", "y"), ("y",), ()]),
        cell=st.integers(0, 5),
        request_id=st.integers(0, 200).map(str),
        body_bytes=st.integers(0, 5000),
        production_us=st.integers(0, 5000),
    ),
    sides,
    sides,
    st.dictionaries(st.sampled_from(GRADERS), st.tuples(outcomes, outcomes), max_size=3),
)


def count(tallier, references, tally, pair):
    request, production, candidate, grades = pair
    settled = {name: {"production": Grade(p), "candidate": Grade(c)} for name, (p, c) in grades.items()}
    tallier.count_pair(tally, request, production, candidate, settled, references)


def tallier_of():
    tallier = Tallier(RULES, dict.fromkeys(GRADERS, ()))
    return tallier, tallier.references(3)


@given(st.lists(pairs, max_size=30), st.sets(st.integers(0, 30)))
@settings(max_examples=100, deadline=None)
def test_when_a_tally_is_read_changes_nothing(drawn, reads):
    """
    Read at the end, after some pairs, or made of one tally a pair and added up: the same bytes.
    """
    at_end, in_between, total = Tally(), Tally(), Tally()
    trials = [tallier_of() for _ in range(3)]
    for index, pair in enumerate(drawn):
        count(*trials[0], at_end, pair)
        count(*trials[1], in_between, pair)
        if index in reads:
            assert in_between.to_bytes() == Tally.from_bytes(in_between.to_bytes()).to_bytes()
        single = Tally()
        count(*trials[2], single, pair)
        total.add(single)

    assert at_end.to_bytes() == in_between.to_bytes() == total.to_bytes()
    assert at_end == in_between


@given(st.lists(pairs, max_size=30))
@settings(max_examples=100, deadline=None)
def test_counts_are_those_of_the_definitions(drawn):
    """
    Grades, quality and costs of slice `all`, counted here from the definitions of the layouts.
    """
    tally = Tally()
    trial = tallier_of()
    four, cells, bins, sums = Counter(), Counter(), Counter(), [0] * 6
    for pair in drawn:
        count(*trial, tally, pair)
        request, production, candidate, grades = pair
        if "all" not in request.slices:
            continue
        decided = {name: (p == PASSED, c == PASSED) for name, (p, c) in grades.items() if p in (PASSED, FAILED)}
        if "a" in decided:
            p, c = decided["a"]
            four[(0 if p else 2) + (0 if c else 1)] += 1
            cells[request.cell, 0] += 1
            cells[request.cell, 1] += c - p
        weight = sum({"a": 1, "b": 2, "c": 4}[name] for name in decided)
        if weight:
            difference = sum({"a": 1, "b": 2, "c": 4}[name] * (c - p) for name, (p, c) in decided.items()) / weight
            position = (difference + 1) / 0.05
            lower = floor(position + 1e-9)
            bins[min(40, lower + (uniform(request.request_id, "quality") < position - lower - 1e-9))] += 1
        if production.outcome == candidate.outcome == "answered":
            c, p = candidate.cost_micro, production.cost_micro
            sums = [s + v for s, v in zip(sums, (1, c, p, c * c, p * p, c * p), strict=True)]

    assert [four[i] for i in range(4)] == tally.vectors.get(Key("all", "graders", "a"), [0] * 4)
    found = tally.cells.get(Key("all", "graders", "a"), {})
    summed = {(cell, i): value for cell, values in found.items() for i, value in enumerate(values) if value}
    assert {place: value for place, value in cells.items() if value} == summed
    assert [bins[i] for i in range(41)] == tally.vectors.get(Key("all", "numeric", "quality"), [0] * 41)
    assert sums == tally.vectors.get(Key("all", "cost", "request"), [0] * 6)


@pytest.mark.parametrize("kinds", [rows.GROUPS_MAX - 1, rows.GROUPS_MAX + 5])
def test_many_kinds_of_pairs_are_spread_before_they_fill_the_memory(kinds):
    """
    More kinds than are kept apart lose nothing.
    """
    tallier, references = tallier_of()
    side, tally = Side("answered", 1, 1, 1, 1), Tally()
    for number in range(kinds):
        request = Counted(("all", f"only-{number}"), number % 128, str(number), 1, 1)
        count(tallier, references, tally, (request, side, side, {}))

    assert isinstance(tally.rows, rows.PairRows)
    assert len(tally.rows.groups) <= rows.GROUPS_MAX
    assert kinds == tally.vectors[Key("all", "classes", "")][0]
    assert kinds + 1 == sum(key.kind == "classes" for key in tally)
