"""The gate reads the tallies that the fold writes: one vector and one set of cells for each rule."""

from __future__ import annotations

from shadow.gate.evidence import evidence_from_json, evidence_to_json
from shadow.gate.observe import observe
from shadow.gate.totals import evidence_from_tally
from shadow.records.grades import FAILED, PASSED, Grade
from shadow.records.tallies import Tally
from shadow.stream.tally import Counted, Side, Tallier
from tests.gate.policies import SHADOW

SLICES = ("all", "headache-red-flags", "debug-search-api", "division")
GRADERS = ("reward", "urgent", "pinned", "current", "correct", "tagged", "safe")
PAIRS = 200


def folded() -> Tally:
    """200 pairs, of which the candidate fails `pinned`, passes the reward, and is slow, in every tenth."""
    tallier = Tallier(SHADOW.rules, dict.fromkeys(GRADERS, ()))
    references = tallier.references(1)
    references.frozen_us["total:0.95:1.25"] = 1000
    tally = Tally()
    for pair in range(PAIRS):
        is_bad = pair % 10 == 0
        grades = {name: {"production": Grade(PASSED), "candidate": Grade(PASSED)} for name in GRADERS}
        if is_bad:
            grades["pinned"]["candidate"] = Grade(FAILED)
            grades["correct"]["candidate"] = Grade(FAILED)
        request = Counted(SLICES, pair % 128, f"request-{pair}", 300, 900)
        production = Side("answered", 900, 90, 100, 10)
        candidate = Side("answered", 2000 if is_bad else 900, 90, 110, 11)
        tallier.count_pair(tally, request, production, candidate, grades, references)
    return tally


def test_every_rule_sees_the_pairs_of_the_fold() -> None:
    """No rule of the example policy is without evidence, and each counts what was graded."""
    evidence = evidence_from_tally(folded(), PAIRS, stage=SHADOW, attempt=1, age_s=60, freshness_s=1, log_sr=None)
    seen = {type(rule).__name__ + rule.slice: observe(rule, evidence) for rule in SHADOW.rules}
    assert {name: observation.n for name, observation in seen.items()} == dict.fromkeys(seen, PAIRS)
    assert all(observation.is_spread and observation.cells == 128 for observation in seen.values())
    assert seen["NoRegressiondebug-search-api"].letters == (20, 180, 0)
    assert seen["NoRewardHackingall"].letters == (0, 180, 20)
    assert seen["Latencyall"].letters == (0, 180, 20)
    assert seen["Capall"].letters == (200, 0, 0)
    assert seen["Floorall"].letters == (200, 0, 0)
    histogram = seen["Qualityall"].histogram
    # `correct` fails and `urgent` passes: the mean of both falls by one half, ten bins below 0.
    assert histogram is not None and (histogram[10], histogram[20]) == (20, 180)
    cost = seen["Costall"].sums
    assert cost is not None and (cost.sum_c, cost.sum_p) == (22_000, 20_000)
    assert cost.v is not None and cost.v < 1e-9  # a constant difference has no spread
    assert evidence.slices["all"].coverage == 1.0
    assert evidence == evidence_from_json(evidence_to_json(evidence))
