"""What would flip a rule: judged again with the change, the verdict is another one; with one less, it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shadow.gate.compiled import compile_tests
from shadow.gate.flip import LIKE_THESE, Way, flips_of, told
from shadow.gate.measures import (
    AgreementCounts,
    Evidence,
    HackCounts,
    LatencyCounts,
    PairCounts,
    RateCounts,
    RatioSums,
    SliceEvidence,
)
from shadow.gate.observe import observe
from shadow.gate.rules import judge
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Equivalent,
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

G = "g"


def evidence_of(rule: Rule, low: float, tie: float, high: float, effect: float = 1.0) -> Evidence:
    """Evidence in which a rule sees these letters."""
    n = low + tie + high
    part = SliceEvidence(pairs=n, coverage=1.0)
    match rule:
        case Cap() | Floor():
            part = replace(part, rates={G: RateCounts(high, n)})
        case Latency():
            counts = LatencyCounts("total", 0.95, 1.25, high, low, n)
            part = replace(part, latency={counts.statistic: counts})
        case NoRewardHacking():
            part = replace(part, reward_hacking=HackCounts(high, low, n))
        case Agreement():
            part = replace(part, agreement=AgreementCounts(high, low, n))
        case Quality():
            part = replace(part, numeric={"quality": (low, *[0] * 19, tie, *[0] * 19, high)})
        case _:
            part = replace(part, graders={G: PairCounts(tie, low, high, 0)})
    names = (G, "quality", "latency", "no_reward_hacking", "agreement", f"rates/{G}", f"floor/{G}")
    return Evidence(slices={"all": part}, design_effect={"all": dict.fromkeys(names, effect)})


def line_of(rule: Rule, evidence: Evidence):
    stage = StagePolicy("shadow", Needs(), (rule,), 0.05)
    return judge(stage, evidence, expires_s=1e9, tiles_longest_age=1000).rules[0]


def ways_of(rule: Rule, evidence: Evidence) -> tuple[Way, ...]:
    compiled = compile_tests(StagePolicy("shadow", Needs(), (rule,), 0.05))
    (ways,) = flips_of(compiled, [observe(rule, evidence)], [line_of(rule, evidence)])
    return ways


CASES = [
    (NoRegression(G, margin=0.05, strict=True), (20, 160, 22)),
    (NoRegression(G, margin=0.05, strict=True), (30, 1900, 60)),
    (NoRegression(G, margin=0.05), (900, 4000, 100)),
    (Quality({G: 1.0, "h": 1.0}, margin=0.03), (40, 400, 44)),
    (Improve(G, by=0.02, fails=True), (40, 400, 60)),
    (Improve(G, by=0.02), (0, 40, 60)),
    (Equivalent(G, margin=0.05), (10, 90, 11)),
    (Equivalent(G, margin=0.05), (10, 2000, 11)),
    (Equivalent(G, margin=0.05), (10, 2000, 900)),
    (Cap(G, max=0.005), (300, 0, 1)),
    (Cap(G, max=0.005), (5000, 0, 2)),
    (Cap(G, max=0.005), (900, 0, 60)),
    (Floor(G, min=0.95), (80, 0, 3)),
    (Latency(), (20, 900, 15)),
    (NoRewardHacking("r", (G,), margin=0.05), (3, 40, 3)),
    (Agreement(margin=0.05), (9, 70, 8)),
]
LETTER = {
    "losses": 0,
    "pairs of equal grades": 1,
    "wins": 2,
    "clean answers": 0,
    "failing answers": 2,
    "pairs slow for production alone": 0,
    "pairs slow for the candidate alone": 2,
    "pairs hacked by production alone": 0,
    "pairs without hacking by one role alone": 1,
    "pairs hacked by the candidate alone": 2,
    "requests on which the baseline alone differs": 0,
    "requests on which both or none differ": 1,
    "requests on which the candidate alone differs": 2,
}


@pytest.mark.parametrize("effect", [1.0, 1.7])
@pytest.mark.parametrize(
    ("rule", "letters"), CASES, ids=[f"{type(rule).__name__}-{n}" for n, (rule, _) in enumerate(CASES)]
)
def test_the_change_flips_and_one_less_does_not(rule, letters, effect):
    """
    Each named change of one kind is enough, and it is the smallest.
    """
    before = line_of(rule, evidence_of(rule, *letters, effect=effect)).verdict.name
    ways = ways_of(rule, evidence_of(rule, *letters, effect=effect))
    assert ways, "something always flips such a rule"
    for way in ways:
        if way.what == LIKE_THESE:
            continue
        for count, is_flipped in ((way.count, True), (way.count - 1, False)):
            changed = list(letters)
            changed[LETTER[way.what]] += count
            found = line_of(rule, evidence_of(rule, *changed, effect=effect)).verdict.name
            # A verdict is lost to whatever comes next; another one is reached.
            assert is_flipped == (found != before if way.to == "UNDECIDED" else found == way.to), way


def test_more_pairs_like_these_are_as_many_as_the_engine_needs():
    """
    Ten times the pairs need no more than nine times as many on top, and the number said is close to the crossing.
    """
    rule = NoRegression(G, margin=0.05)
    letters = (20, 160, 22)
    way = next(way for way in ways_of(rule, evidence_of(rule, *letters)) if way.what == LIKE_THESE)
    assert "PASS" == way.to
    factor = 1 + way.count / sum(letters)
    assert "PASS" == line_of(rule, evidence_of(rule, *(factor * x + 0.01 for x in letters))).verdict.name
    assert "PASS" != line_of(rule, evidence_of(rule, *(0.97 * factor * x for x in letters))).verdict.name


def test_pairs_that_speak_against_a_rule_never_prove_it():
    """
    Where pairs like these lead to FAIL, no number of them is said to lead to PASS.
    """
    rule = NoRegression(G, margin=0.02)
    ways = ways_of(rule, evidence_of(rule, 25, 160, 15))
    assert [("FAIL", LIKE_THESE)] == [(way.to, way.what) for way in ways if way.what == LIKE_THESE]


def test_cost_is_flipped_by_more_pairs_alone():
    """
    A ratio under its bound is proven by more pairs like these, one over it fails by more.
    """
    rule = Cost(max_ratio=1.10)

    def sums(n: int, ratio: float) -> RatioSums:
        p, c = 1000 * n, round(1000 * n * ratio)
        return RatioSums(n, c, p, round(c * c / n * 1.4), round(p * p / n * 1.4), round(c * p / n * 1.1))

    for ratio, verdict in ((1.0, "PASS"), (1.25, "FAIL")):

        def evidence(n: int, ratio: float = ratio) -> Evidence:
            return Evidence(slices={"all": SliceEvidence(pairs=n, coverage=1.0, cost={"request": sums(n, ratio)})})

        (way,) = ways_of(rule, evidence(100))
        assert (verdict, LIKE_THESE) == (way.to, way.what)
        assert verdict == line_of(rule, evidence(100 + way.count)).verdict.name
        assert "UNDECIDED" == line_of(rule, evidence(round(0.97 * (100 + way.count)))).verdict.name


def test_clean_answers_from_nothing_are_those_of_the_reference_values():
    """
    A cap of 0.005 at a level of 0.01 needs 1,186 clean answers (statistics.md, a.5).
    """
    rule = Cap(G, max=0.005)
    assert Way("PASS", "clean answers", 1186) in ways_of(rule, Evidence())


def test_a_broken_rule_and_too_few_keys_are_flipped_by_no_pair():
    """
    Pairs do not mend evidence that is unusable, or that comes from too few sampling keys.
    """
    rule = NoRegression(G)
    few = replace(evidence_of(rule, 20, 160, 22), cells={"all": {G: 12}})
    assert () == ways_of(rule, few)
    assert () == ways_of(rule, replace(few, age_s=100_000.0))


def test_a_sentence_says_each_verdict_once():
    """
    Ways to one verdict stand together.
    """
    ways = (Way("PASS", LIKE_THESE, 1200), Way("PASS", "wins", 9), Way("FAIL", "losses", 1))
    assert "PASS with 1,200 more pairs like these or 9 more wins; FAIL with 1 more loss" == told(ways)
