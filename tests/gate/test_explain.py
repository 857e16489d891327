"""What holds a run is named, with what is missing and, at today's rate, when it will be there."""

from __future__ import annotations

import pytest

from shadow.gate.explain import Row, explain, pace, suspects
from shadow.gate.judgement import Judgement
from shadow.gate.measures import Evidence, MissingShare, PairCounts, SliceEvidence
from shadow.gate.rules import judge
from shadow.records.policy import Equivalent, Needs, NoRegression, Rule, StagePolicy

DAY_S = 86_400.0
RULE = NoRegression("g", margin=0.05, strict=True)


def judged(*rules: Rule, needs: Needs | None = None, **evidence) -> Judgement:
    stage = StagePolicy("shadow", needs or Needs(), rules or (RULE,), 0.05)
    return judge(stage, Evidence(**evidence), expires_s=7 * DAY_S, tiles_longest_age=10_080)


def row_of(judgement: Judgement, name: str, slice: str = "all") -> Row:
    return next(row for row in explain(judgement) if (row.name, row.slice) == (name, slice))


def part(pairs: int, losses: int = 0, wins: int = 0, **more) -> SliceEvidence:
    four = PairCounts(pairs - losses - wins, losses, wins, 0)
    return SliceEvidence(pairs=pairs, graders={"g": four}, **{"coverage": 1.0, **more})


def test_volume_that_today_cannot_bring_is_said_never_to_come():
    """
    2,400 pairs a day stay 2,400 pairs a day.
    """
    row = row_of(judged(slices={"all": part(4800)}, window_pairs=2400, age_s=2 * DAY_S), "volume")
    assert ("2,600 pairs within the window", None) == (row.missing, row.eta_s)
    assert "never at today's rate: 24 h bring 2,400 pairs" == row.when


def test_a_slice_is_filled_at_todays_rate_not_at_the_mean_one():
    """
    Half of the first day's traffic today: the 250 pairs that are missing take twice as long as on average.
    """
    rules = (NoRegression("g", "rare"),)
    slices = {"all": part(9000), "rare": part(1000)}
    judgement = judged(*rules, slices=slices, window_pairs=3000, age_s=2 * DAY_S)
    assert 2 / 3 == pytest.approx(pace(judgement))
    row = row_of(judgement, "slice_volume", "rare")
    assert "250 pairs of rare" == row.missing
    assert row.eta_s == pytest.approx(250 / (1000 / (2 * DAY_S) * 2 / 3))
    assert "at today's rate in about 18 h" == row.when


def test_what_comes_after_the_end_is_said_to_come_too_late():
    """
    Ten pairs a day fill no slice of 1,250 in a week.
    """
    judgement = judged(NoRegression("g", "rare"), slices={"rare": part(10)}, window_pairs=10, age_s=DAY_S)
    rows = {row.name: row.when for row in explain(judgement, expires_s=7 * DAY_S)}
    assert "at today's rate in about 124 d, after the run has expired" == rows["slice_volume"]
    assert "expired" not in rows["volume"]


def test_coverage_recovers_once_nothing_is_missing_any_more():
    """
    950 of 1,000 are paired: 1,500 requests of which none is missing make 2,450 of 2,500, which are 98 %.
    """
    row = row_of(judged(slices={"all": part(950, coverage=0.95)}, age_s=1000.0), "coverage")
    assert "about 1,500 more requests of which none is missing" == row.missing
    assert row.eta_s == pytest.approx(1500.0)


def test_losses_that_are_not_random_thin_out_likewise():
    """
    Ten of 1,000 missing are 1 %: another 1,000 requests without a loss make them 0.5 %.
    """
    missing = MissingShare(0.01, 2.0, 1.0)
    judgement = judged(slices={"all": part(990, coverage=0.99, missing=missing)}, age_s=1000.0)
    row = row_of(judgement, "missing_at_random")
    assert "about 1,000 more requests of which none is missing" == row.missing
    assert row.eta_s == pytest.approx(1000.0)


def test_unknown_coverage_and_a_stale_tile_have_no_time():
    """
    What is not known, and what others must mend, has no moment.
    """
    judgement = judged(slices={"all": part(950, coverage=None)}, age_s=1000.0, freshness_s=2000.0)
    assert ("to be known at all", "when cannot be told from the rate") == (
        row_of(judgement, "coverage").missing,
        row_of(judgement, "coverage").when,
    )
    assert "a closed tile that is at least 80 s newer" == row_of(judgement, "freshness").missing


def test_a_rule_waits_for_pairs_like_these_or_never():
    """
    An even rule has a moment; one whose pairs speak against it has none, and says so.
    """
    even = row_of(judged(slices={"all": part(150, 10, 11)}, age_s=1500.0), "no_regression")
    count = next(way.count for way in even.ways if (way.to, way.what) == ("PASS", "pairs like these"))
    assert f"about {count} more pairs like these" == even.missing
    assert even.eta_s == pytest.approx(10.0 * count)
    against = row_of(judged(slices={"all": part(150, 18, 5)}, age_s=1500.0), "no_regression")
    assert "never at today's rate: pairs like these prove nothing, however many" == against.when
    assert "wins" in against.missing


def test_what_is_met_misses_nothing_and_names_what_would_flip_it():
    """
    A rule that passes says how many losses it would take.
    """
    row = row_of(judged(slices={"all": part(1500, 10, 11)}), "no_regression")
    assert ("PASS", "", "") == (row.verdict, row.missing, row.when)
    assert "losses" in row.flip


def test_have_and_need_hold_e_values_and_bounds():
    """
    Both e-values, the estimate between its bounds, the pairs; and what each e-value must reach.
    """
    judgement = judged(slices={"all": part(1500, 10, 16)})
    row, line = row_of(judgement, "no_regression"), judgement.rules[0]
    assert (
        f"log e {line.log_e_pass:.2f} for, {line.log_e_fail:.2f} against, estimate +0.0040 "
        f"[{line.lower:+.4f}, {line.upper:+.4f}], 1,500 pairs"
    ) == row.have
    assert f"log e 3.00 to PASS, {line.need_fail:.2f} to FAIL" == row.need


def test_suspects_stand_in_the_order_of_e_bh():
    """
    The strongest evidence comes first; e-BH names the first two at 0.05; half of a pair of tests counts.
    """
    rules = (NoRegression("a", strict=True), NoRegression("b", strict=True), Equivalent("c", margin=0.05))
    graders = {"a": PairCounts(500, 60, 10, 0), "b": PairCounts(500, 90, 5, 0), "c": PairCounts(500, 40, 12, 0)}
    judgement = judged(*rules, slices={"all": SliceEvidence(pairs=600, coverage=1.0, graders=graders)})
    found = suspects(judgement)
    assert [("no_regression/all/b", True), ("no_regression/all/a", True)] == [(s.id, s.is_named) for s in found[:2]]
    assert sorted((each.log_e for each in found), reverse=True) == [each.log_e for each in found]
