"""The history of a verdict: what is kept follows from the tiles, whoever looked and however often."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.gate.judgement import Judgement
from shadow.gate.measures import Evidence, PairCounts, SliceEvidence
from shadow.gate.rules import judge
from shadow.gate.trace import POINTS_MAX, Trace, history_tree, trace_from_bytes
from shadow.records.policy import Needs, NoRegression, StagePolicy

RULES = (NoRegression("good", margin=0.05), NoRegression("bad", margin=0.05, strict=True))


def judgement_of(good: int, bad: int, name: str = "shadow") -> Judgement:
    """A stage with so many pairs of wins and losses in balance for one rule, and so many losses for the other."""
    graders = {"good": PairCounts(20 * good, good, good, 0), "bad": PairCounts(20 * good, bad, 0, 0)}
    part = SliceEvidence(pairs=22 * good, coverage=1.0, graders=graders)
    evidence = Evidence(slices={"all": part}, freshness_s=1.0)
    return judge(StagePolicy(name, Needs(), RULES, 0.05), evidence, expires_s=1e9, tiles_longest_age=100)


HOLD, PASSES, FAILS = judgement_of(3, 0), judgement_of(100, 0), judgement_of(100, 60)


def traced(judgements: list[Judgement], first_tile: int = 7) -> Trace:
    trace = Trace()
    for tile, judgement in enumerate(judgements, first_tile):
        trace.add(tile, judgement)
    return trace


def test_verdicts_and_since_when():
    """
    A letter a rule and tile, and for each rule the tile from which it has had its verdict.

    tile   7 8 9 10 11
    good   U U P P  P
    bad    U U P P  F
    """
    trace = traced([HOLD, HOLD, PASSES, PASSES, FAILS])
    assert ["UU", "UU", "PP", "PP", "PF"] == [point.verdicts for point in trace.points]
    assert [9, 11] == trace.since
    assert ["hold"] * 4 + ["rollback"] == [point.decision for point in trace.points]


def test_it_is_thinned_evenly_and_keeps_the_newest():
    """
    Beyond 96 points every second one goes; the first and the newest stay.
    """
    trace = traced([HOLD] * 200, first_tile=3)
    tiles = [point.tile for point in trace.points]
    assert 4 == trace.stride
    assert [*range(3, 202, 4), 202] == tiles


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.data())
def test_looking_again_and_ending_in_between_changes_nothing(tiles, data):
    """
    A gate that judges a tile twice, or that ends and reads its history back, tells the same story.
    """
    kinds = [HOLD, PASSES, FAILS]
    chosen = [kinds[data.draw(st.integers(0, 2))] for _ in range(5)]
    judgements = [chosen[tile * 5 // tiles] for tile in range(tiles)]
    ends = data.draw(st.sets(st.integers(0, tiles), max_size=4))
    other = Trace()
    for tile, judgement in enumerate(judgements, 7):
        if tile - 7 in ends:
            other = trace_from_bytes(other.to_bytes())
            if other.points:
                other.add(tile - 1, judgements[tile - 8])
        other.add(tile, judgement)
    assert traced(judgements) == other
    assert len(other.points) <= POINTS_MAX


def test_another_stage_begins_another_history():
    """
    Rules of another stage are others, and so is what was said of them.
    """
    trace = traced([HOLD, PASSES])
    trace.add(9, judgement_of(3, 0, "canary"))
    assert ("canary", 9, [9], [9, 9]) == (trace.stage, trace.first_tile, [p.tile for p in trace.points], trace.since)


def test_an_unreadable_history_is_an_empty_one():
    """
    Nothing is decided with it, so nothing waits for it either.
    """
    assert Trace() == trace_from_bytes(None) == trace_from_bytes(b"[1]") == trace_from_bytes(b"{}")


def test_the_document_has_the_ends_of_tiles():
    """
    Tile 7 of a minute ends 8 minutes after the log's zero.
    """
    tree = history_tree(traced([HOLD]), ["a", "b"], 60_000_000)
    assert [{"at_us": 480_000_000, "decision": "hold", "verdicts": "UU", "log_e": 0.0}] == [
        {**point, "log_e": 0.0} for point in tree["points"]
    ]
    assert (["a", "b"], [480_000_000] * 2) == (tree["rules"], tree["since_us"])
