"""The table of statistics.md a.4 and the decision of a.5, rule by rule."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from shadow.gate.compiled import compile_tests
from shadow.gate.explain import duration, explain, explain_lines
from shadow.gate.judgement import judgement_to_json
from shadow.gate.measures import (
    Evidence,
    HackCounts,
    LatencyCounts,
    MissingShare,
    PairCounts,
    RateCounts,
    RatioSums,
    SliceEvidence,
)
from shadow.gate.naming import kind_of
from shadow.gate.rules import Judgement, Verdict, judge, worst
from shadow.gate.stats.engine import log_e_pair
from shadow.records.policy import (
    Cap,
    Cost,
    Floor,
    Improve,
    Latency,
    Needs,
    NoRegression,
    NoRewardHacking,
    Quality,
    Rule,
    StagePolicy,
)
from tests.gate.policies import EXPIRES_S, SHADOW, TILES


def judged(rule: Rule, part: SliceEvidence, **changes: object) -> Judgement:
    """A judgement of one rule on slice `all`."""
    evidence = replace(Evidence(slices={"all": part}), **changes)  # type: ignore[arg-type]
    stage = StagePolicy("shadow", Needs(), (rule,))
    return judge(stage, evidence, expires_s=EXPIRES_S, tiles_longest_age=TILES)


def line(rule: Rule, part: SliceEvidence, **changes: object) -> tuple[Verdict, str]:
    found = judged(rule, part, **changes).rules[0]
    return found.verdict, found.reason


def test_worst_verdict_wins() -> None:
    """PASS, UNDECIDED, BROKEN, FAIL, in this order."""
    assert [v.name for v in sorted(Verdict)] == ["PASS", "UNDECIDED", "BROKEN", "FAIL"]
    assert worst([Verdict.PASS, Verdict.BROKEN, Verdict.UNDECIDED]) == Verdict.BROKEN


@pytest.mark.parametrize("verdicts", [[], ["PASS"], [Verdict.PASS, 0], [Verdict.PASS, None]])
def test_unknown_verdict_is_never_good(verdicts: list[object]) -> None:
    """No verdict, and what is none, raise."""
    with pytest.raises(ValueError, match="verdict"):
        worst(verdicts)


def test_weights_of_the_example_policy() -> None:
    """Weights by kind, shared inside the kind, scaled to 0.95."""
    tests = [test for test in compile_tests(SHADOW).tests if not test.is_promote]
    by_kind: dict[str, float] = {}
    for test in tests:
        kind = kind_of(SHADOW.rules[test.rule])
        by_kind[kind] = by_kind.get(kind, 0.0) + test.weight
    assert math.isclose(math.fsum(test.weight for test in tests), 0.95)
    # quality .10, no_regression .40, cap .20, floor .06, equivalent .06, latency .07, cost .05, hack .06: 1.00
    assert {kind: round(weight / 0.95, 6) for kind, weight in by_kind.items()} == {
        "quality": 0.1,
        "no_regression": 0.4,
        "cap": 0.2,
        "floor": 0.06,
        "equivalent": 0.06,
        "latency": 0.07,
        "cost": 0.05,
        "no_reward_hacking": 0.06,
    }
    assert len([test for test in tests if kind_of(SHADOW.rules[test.rule]) == "equivalent"]) == 2


def test_example_of_the_design() -> None:
    """The judgement that design.md, section 15 shows."""
    part = SliceEvidence(pairs=12_000, graders={"correct": PairCounts(9000, 150, 160, 2690)})
    found = judged(NoRegression("correct", margin=0.003), part).rules[0]
    shown = (found.estimate, found.lower, found.upper, found.log_e_pass, found.log_e_fail, found.need)
    assert [round(value, 4) for value in shown if value is not None] == [
        0.0008, -0.0035, 0.0052, 2.1015, -2.5566, 2.9957,
    ]  # fmt: skip
    assert found.verdict == Verdict.UNDECIDED


def test_no_evidence_is_undecided() -> None:
    """Nothing for a rule is UNDECIDED, also after a day, and holds."""
    for rule in SHADOW.rules:
        judgement = judged(replace(rule, slice="all"), SliceEvidence(pairs=9), age_s=90_000.0)
        assert judgement.rules[0].verdict == Verdict.UNDECIDED
        assert judgement.decision == "hold"
        assert "no evidence" in judgement.rules[0].reason


def test_policy_without_rules_holds() -> None:
    """Nothing to prove is no proof."""
    part = SliceEvidence(pairs=9000, coverage=1.0)
    evidence = Evidence(slices={"all": part}, window_pairs=9000, freshness_s=1)
    judgement = judge(StagePolicy("shadow", Needs(), ()), evidence, expires_s=EXPIRES_S, tiles_longest_age=TILES)
    assert judgement.decision == "hold"
    assert "no rules" in judgement.reason


def test_strict_rolls_back_on_a_small_decrease() -> None:
    """A proven decrease inside the margin fails a strict rule and passes another one."""
    part = SliceEvidence(pairs=60_000, graders={"g": PairCounts(50_000, 3000, 2300, 4700)})
    assert line(NoRegression("g", margin=0.05), part)[0] == Verdict.PASS
    verdict, reason = line(NoRegression("g", margin=0.05, strict=True), part)
    assert verdict == Verdict.FAIL
    assert "worse than production" in reason


def test_numeric_grader_uses_its_histogram() -> None:
    """A grader without pass and fail is judged by the bins of its difference."""
    bins = [0] * 41
    bins[20], bins[18] = 5000, 800
    verdict, reason = line(
        NoRegression("score", margin=0.01), SliceEvidence(pairs=6000, numeric={"score": tuple(bins)})
    )
    assert verdict == Verdict.FAIL
    assert "-1.38 points" in reason


def test_quality_of_one_grader_takes_its_four_cells() -> None:
    """Without a histogram, a single grader's losses, ties and wins are the quality."""
    part = SliceEvidence(pairs=5000, graders={"g": PairCounts(4690, 150, 160, 0)})
    found = judged(Quality({"g": 1.0}, margin=0.02), part).rules[0]
    assert round(found.log_e_pass, 6) == 16.585656


def test_floor_takes_failures_from_the_four_cells() -> None:
    """Both `production_only` and `neither` are failures of the candidate (V13)."""
    part = SliceEvidence(pairs=5000, graders={"g": PairCounts(4700, 90, 110, 100)})
    found = judged(Floor("g", min=0.95), part).rules[0]
    assert round(found.log_e_pass, 6) == 5.693706
    assert found.lower is not None and round(found.lower, 6) == 0.952280
    assert found.estimate == 0.962


def test_floor_prefers_its_own_rates() -> None:
    """`floor/<grader>` counts for the floor, `<grader>` for the cap beside it."""
    part = SliceEvidence(pairs=5000, rates={"g": RateCounts(0, 4000), "floor/g": RateCounts(190, 5000)})
    assert judged(Floor("g"), part).rules[0].pairs == 5000
    assert judged(Cap("g"), part).rules[0].pairs == 4000


def test_cap_needs_its_own_alpha() -> None:
    """V12: 4,043 clean requests prove a cap of 0.1 % at 5 %, and 5,940 at 1 %."""
    for n, alpha, expected in (
        (4042, 0.05, Verdict.UNDECIDED),
        (4043, 0.05, Verdict.PASS),
        (5939, 0.01, Verdict.UNDECIDED),
        (5940, 0.01, Verdict.PASS),
    ):
        part = SliceEvidence(pairs=n, rates={"safe": RateCounts(0, n)})
        assert line(Cap("safe", max=0.001, alpha=alpha), part)[0] == expected


def test_improvement_needs_five_hundred_pairs() -> None:
    """A huge improvement on few pairs is not proven yet."""
    for n, expected in ((499, Verdict.UNDECIDED), (500, Verdict.PASS)):
        part = SliceEvidence(pairs=n, graders={"g": PairCounts(n - 200, 0, 200, 0)})
        assert line(Improve("g", by=0.02), part)[0] == expected


def test_improvement_fails_only_where_told() -> None:
    """A candidate that does not improve waits, unless `fails: true`."""
    part = SliceEvidence(pairs=9000, graders={"g": PairCounts(8000, 300, 300, 400)})
    assert line(Improve("g", by=0.05), part)[0] == Verdict.UNDECIDED
    assert line(Improve("g", by=0.05, fails=True), part)[0] == Verdict.FAIL


def test_cost_needs_five_hundred_pairs() -> None:
    """Before 500 pairs the approximation says nothing (V17 at 2,000)."""
    sums = RatioSums(2000, 2100, 2000, 2900, 2600, 2450)
    found = judged(Cost(max_ratio=1.10), SliceEvidence(pairs=2000, cost={"request": sums})).rules[0]
    assert round(found.log_e_pass, 6) == 5.564739
    assert found.estimate == 1.05
    assert found.upper is not None and found.upper < 1.10
    few = RatioSums(499, 2100, 499, 29000, 2600, 2450)
    assert judged(Cost(), SliceEvidence(pairs=499, cost={"request": few})).rules[0].log_e_fail == 0.0


def test_constant_cost_is_finite() -> None:
    """A cost that never varies gives neither infinity nor NaN."""
    same = RatioSums(9000, 9000, 9000, 9000, 9000, 9000)
    tree = judgement_to_json(judged(Cost(), SliceEvidence(pairs=9000, cost={"request": same})))
    assert tree["rules"][0]["verdict"] == "PASS"
    json.dumps(tree, allow_nan=False)


def test_cost_without_production_cost_is_broken() -> None:
    """A ratio to 0 is BROKEN and blames nobody."""
    free = RatioSums(9000, 9000, 0, 9000, 0, 0)
    judgement = judged(Cost(), SliceEvidence(pairs=9000, cost={"request": free}))
    assert judgement.rules[0].verdict == Verdict.BROKEN
    assert judgement.decision == "hold"


def slow(n: int, production_slow: int, candidate_only: int = 0) -> SliceEvidence:
    counts = LatencyCounts("total", 0.95, 1.25, candidate_only, 0, n, 800_000, production_slow)
    return SliceEvidence(pairs=n, latency={counts.statistic: counts})


@pytest.mark.parametrize(
    ("n", "production_slow", "is_broken"),
    [(1000, 24, True), (1000, 25, False), (1000, 100, False), (1000, 101, True), (999, 0, False)],
)
def test_latency_reference_must_still_hold(n: int, production_slow: int, is_broken: bool) -> None:
    """Production's own share must be in 0.5 to 2 x (1 - q), once 50 slow ones are expected."""
    assert (line(Latency(), slow(n, production_slow))[0] == Verdict.BROKEN) == is_broken


def test_broken_latency_never_rolls_back() -> None:
    """A stale reference is our trouble: however slow the candidate looks, the gate holds."""
    assert judged(Latency(), slow(4000, 200, 1500)).decision == "rollback"
    assert judged(Latency(), slow(4000, 1000, 1500)).decision == "hold"


def test_reward_hacking_by_both_is_no_divergence() -> None:
    """What both roles do is not held against the candidate; what it does alone is, and is named."""
    equal = SliceEvidence(pairs=9000, reward_hacking=HackCounts(300, 300, 9000))
    assert line(NoRewardHacking("r", ("v",)), equal)[0] == Verdict.PASS
    more = SliceEvidence(pairs=9000, reward_hacking=HackCounts(1500, 10, 9000))
    verdict, reason = line(NoRewardHacking("r", ("v",)), more)
    assert verdict == Verdict.FAIL
    assert "proven: reward hacking is more frequent than for production" in reason


def test_few_keys_hold_and_break_after_a_day() -> None:
    """Fewer than 40 hash cells are no evidence, and BROKEN after 24 hours."""
    part = SliceEvidence(pairs=9000, graders={"g": PairCounts(0, 9000, 0, 0)})
    cells = {"all": {"g": 39}}
    young = judged(NoRegression("g"), part, cells=cells, age_s=86_399.0)
    assert (young.rules[0].verdict, young.rollback.log_e) == (Verdict.UNDECIDED, pytest.approx(math.log(0.95)))
    verdict, reason = line(NoRegression("g"), part, cells=cells, age_s=86_400.0)
    assert verdict == Verdict.BROKEN
    assert "about 39 sampling keys" in reason
    assert judged(NoRegression("g"), part, cells={"all": {"g": 40}}).decision == "rollback"


def test_design_effect_divides_the_counts() -> None:
    """V24: a design effect of 2 halves all counts."""
    part = SliceEvidence(pairs=1000, graders={"g": PairCounts(940, 40, 20, 0)})
    found = judged(NoRegression("g", strict=True), part, design_effect={"all": {"g": 2.0}}).rules[0]
    assert found.log_e_fail is not None and round(found.log_e_fail, 6) == 0.996542


def test_attempts_shrink_promotion_alone() -> None:
    """The promote level falls with the attempts (V34); the rollback's does not."""
    part = SliceEvidence(pairs=1000, graders={"g": PairCounts(900, 40, 20, 40)})
    first, third = (judged(NoRegression("g"), part, attempt=attempt) for attempt in (1, 3))
    assert math.isclose(first.rules[0].need, -math.log(0.05))
    assert round(math.exp(-third.rules[0].need), 6) == 0.003377
    assert first.rollback == third.rollback


def test_rollback_thresholds() -> None:
    """0.8 of alpha for the average, 0.2 for the detector over T tiles."""
    rollback = judged(NoRegression("g"), SliceEvidence()).rollback
    assert (round(rollback.need, 4), round(rollback.need_sr, 1)) == (3.2189, 13.8)


def test_detector_alone_rolls_back_and_names_suspects() -> None:
    """The change detector's threshold is inclusive, and its largest parts are the suspects."""
    need_sr = judged(NoRegression("g"), SliceEvidence()).rollback.need_sr
    assert need_sr == pytest.approx(math.log(TILES / 0.01))
    evidence = Evidence(log_sr=need_sr)
    parts = {"a": 13.0, "b": 12.0, "c": 2.0}
    judgement = judge(SHADOW, evidence, expires_s=EXPIRES_S, tiles_longest_age=TILES, detector=parts)
    assert judgement.decision == "rollback"
    assert judgement.culprits == ("joint evidence", "a", "b")
    below = replace(evidence, log_sr=need_sr - 1e-6)
    assert judge(SHADOW, below, expires_s=EXPIRES_S, tiles_longest_age=TILES).decision == "hold"


def test_rule_fails_exactly_at_its_weighted_threshold() -> None:
    """One rule's FAIL is ln w + log e >= ln(1/(0.8 alpha))."""
    need_fail = math.log(1 / 0.04) - math.log(0.95)
    losses = next(n for n in range(1, 200) if log_e_pair(n, 10, 500, 0.0, "ge") >= need_fail)
    for lost, expected in ((losses - 1, Verdict.UNDECIDED), (losses, Verdict.FAIL)):
        part = SliceEvidence(pairs=1000, graders={"g": PairCounts(500, lost, 10, 0)})
        assert line(NoRegression("g", strict=True), part)[0] == expected


@pytest.mark.parametrize(
    ("missing", "coverage", "is_met"),
    [
        (MissingShare(0.005, 9.0, 9.0), 0.99, True),
        (MissingShare(0.006, 1.25, 0.8), 0.99, True),
        (MissingShare(0.006, 1.26, 1.0), 0.99, False),
        (MissingShare(0.006, 1.0, 0.79), 0.99, False),
        (MissingShare(0.006, None, 1.0), 0.99, True),
        (MissingShare(0.006), 0.99, False),
        (None, 0.995, True),
        (None, 0.99, False),
        (None, None, False),
    ],
)
def test_missing_requests_must_be_like_the_others(
    missing: MissingShare | None, coverage: float | None, is_met: bool
) -> None:
    """Over half a percent missing, their size and latency must be within 0.8 to 1.25 x, and known."""
    part = SliceEvidence(pairs=9000, coverage=coverage, missing=missing)
    found = [c for c in judged(NoRegression("g"), part).conditions if c.name == "missing_at_random"]
    assert [condition.is_met for condition in found] == [is_met]


def test_explanation_names_what_blocks_and_when() -> None:
    """Blocking rows come first, with have, need and a time at today's rate."""
    part = SliceEvidence(pairs=800, coverage=0.999, graders={"g": PairCounts(700, 30, 32, 38)})
    judgement = judged(NoRegression("g", margin=0.03), part, window_pairs=800, age_s=3600.0, freshness_s=5.0)
    rows = explain(judgement)
    assert [row.blocks for row in rows] == sorted((row.blocks for row in rows), reverse=True)
    volume = next(row for row in rows if row.name == "volume")
    assert (volume.have, volume.need, volume.verdict) == ("800", "5,000", "not met")
    assert volume.eta_s == pytest.approx(3600 * 4200 / 800)
    text = explain_lines(judgement)
    assert text[0].startswith("hold: ")
    assert any("at today's rate in about" in each for each in text)
    assert "blocked by slices: all." in text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (119, "119 s"), (7200, "2 h"), (200_000, "2 d")])
def test_duration(seconds: float, text: str) -> None:
    """A time is told in its largest sensible unit."""
    assert duration(seconds) == text
