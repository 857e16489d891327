"""Judging a suite once, and what stands in the decisions topic of it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from shadow.gate.history import runs_in
from shadow.gate.judgement import Verdict
from shadow.gate.measures import Evidence, LatencyCounts, PairCounts, RateCounts, RatioSums, SliceEvidence
from shadow.gate.offline import judge_suite, offline_judgement_to_json
from shadow.gate.trials import attempt_next, hold_id_of, look_of, not_begun, promoted
from shadow.records.decisions import Decision, Started, decision_id
from shadow.records.policy import (
    Cap,
    Cost,
    Equivalent,
    Floor,
    Improve,
    Latency,
    Needs,
    NoRegression,
    Quality,
    StagePolicy,
)

RULES = (
    NoRegression("correct", margin=0.05, strict=True),
    Quality({"correct": 1.0}, margin=0.05),
    Cap("safe", max=0.02, alpha=0.01),
    Floor("tagged", min=0.9),
    Improve("correct", by=0.02),
    Equivalent("tagged", margin=0.05),
    Latency(0.95, 1.25, reference_us=1000),
    Cost(1.1, cap_micro=1000),
)
STAGE = StagePolicy("offline", Needs(), RULES)


def evidence(losses: int, wins: int, n: int = 400, *, coverage: float = 1.0) -> Evidence:
    """A suite in which the candidate loses and wins so many pairs, and does well otherwise."""
    bins = [0] * 41
    bins[0], bins[20], bins[40] = losses, n - losses - wins, wins
    part = SliceEvidence(
        pairs=n,
        coverage=coverage,
        graders={"correct": PairCounts(n - losses - wins, losses, wins, 0), "tagged": PairCounts(n, 0, 0, 0)},
        rates={"safe": RateCounts(0, n)},
        numeric={"quality": tuple(bins)},
        latency={"total:0.95:1.25": LatencyCounts("total", 0.95, 1.25, 0, 20, n, None, 20)},
        cost={"request": RatioSums(n, n, n, n, n, n)},
    )
    return Evidence(slices={"all": part})


CHEAP = {"cost/all/request": [-0.1] * 400}


def verdicts(losses: int, wins: int, costs: dict[str, list[float]] = CHEAP, **changes: float) -> dict[str, str]:
    judged = judge_suite(STAGE, evidence(losses, wins), costs, look=int(changes.get("look", 1)))
    return {line.id: line.verdict.name for line in judged.rules}


def test_a_better_candidate_is_promoted() -> None:
    """
    With 4 losses and 40 wins of 400 every rule is proven.
    """
    judged = judge_suite(STAGE, evidence(4, 40), CHEAP)
    assert {"PASS"} == {line.verdict.name for line in judged.rules}
    assert ("promote", ()) == (judged.decision, judged.culprits)
    assert "NaN" not in json.dumps(offline_judgement_to_json(judged))


def test_an_equal_candidate_is_held_by_improve() -> None:
    """
    What does not prove a gain is neither better nor worse: the rule that wants one is open, and only it.
    """
    found = verdicts(5, 5)
    assert {"improve/all/correct": "UNDECIDED"} == {name: each for name, each in found.items() if each != "PASS"}
    assert "hold" == judge_suite(STAGE, evidence(5, 5), CHEAP).decision


def test_a_worse_candidate_is_rolled_back_by_name() -> None:
    """
    40 losses and 5 wins are a proven decrease; the culprits are the rules that say so, worst first.
    """
    judged = judge_suite(STAGE, evidence(40, 5), CHEAP)
    assert "rollback" == judged.decision
    assert "no_regression/all/correct" == judged.culprits[0]
    assert "40 losses and 5 wins in 400 pairs" in judged.reason


def test_costs_are_judged_by_sign_flips() -> None:
    """
    Pairs that all cost more than the ratio allows are proven to, at the smallest p-value there is.
    """
    dear = judge_suite(STAGE, evidence(4, 40), {"cost/all/request": [0.1] * 400})
    line = next(each for each in dear.rules if each.rule == "cost")
    assert (Verdict.FAIL, "sign flips", 1e-4) == (line.verdict, line.test, line.p_fail)


def test_missing_grades_hold() -> None:
    """
    Where too many grades are broken, proven rules do not promote.
    """
    judged = judge_suite(STAGE, evidence(4, 40, coverage=0.97), CHEAP)
    assert ("hold", 1) == (judged.decision, len(judged.holds))


def test_no_evidence_is_no_pass() -> None:
    """
    A suite without a request of a slice proves nothing about it.
    """
    stage = dataclasses.replace(STAGE, rules=(NoRegression("correct", slice="rare"),))
    judged = judge_suite(stage, evidence(0, 0), {})
    assert ("hold", "UNDECIDED") == (judged.decision, judged.rules[0].verdict.name)


def test_a_later_look_needs_more() -> None:
    """
    What a first look proves with p 0.01 to 0.05 is not proven at the tenth.
    """
    assert "PASS" == verdicts(10, 40)["improve/all/correct"]
    assert "UNDECIDED" == verdicts(10, 40, look=10)["improve/all/correct"]


# The topic.

DIGEST = "ab" * 32


def decided(decision: str, attempt: int, data: str = "d") -> Decision:
    run = f"c-{DIGEST[:8]}-{attempt}"
    told = {"name": run, "candidate": "c", "production": "p", "digest": DIGEST, "attempt": attempt}
    made = hold_id_of(run, data) if decision == "hold" else decision_id(run, 0)
    to = {"promote": "shadow", "hold": "offline", "rollback": "rolled_back"}[decision]
    return Decision(made, run, 0, decision, "offline", to, 0, data, (), (), "", json.dumps({"run": told}), 0)


def started(attempt: int) -> Started:
    return Started(f"c-{DIGEST[:8]}-{attempt}", attempt, "c", "p", DIGEST, "shadow", 1, 0, (0,), (0,), 0, 1)


def test_a_promote_before_started_is_no_step_of_the_run() -> None:
    """
    The run that begins on it is in its first stage, with no decision of its own, and not finished.
    """
    records = [decided("promote", 1), started(1)]
    run = runs_in(records)[0]
    assert ("shadow", (), False) == (run.stage, run.decisions, run.is_finished)
    assert {} == not_begun(records)
    assert 2 == attempt_next(records, "c", "p")
    assert promoted(records, run.name, DIGEST) == records[0]
    assert promoted(records, run.name, "00" * 32) is None


def test_a_rollback_uses_the_attempt_up() -> None:
    """
    The next attempt is another run, which the rollback says nothing about; other candidates are not touched.
    """
    records = [decided("rollback", 1)]
    assert (2, 1) == (attempt_next(records, "c", "p"), attempt_next(records, "another", "p"))
    assert ["c-abababab-1"] == list(not_begun(records))
    assert promoted([*records, decided("promote", 1)], "c-abababab-1", DIGEST) is None


def test_every_hold_is_a_look() -> None:
    """
    A hold on other data counts as a look, the same data again do not.
    """
    records = [decided("hold", 1, "first"), decided("hold", 1, "second"), decided("hold", 1, "second")]
    name = "c-abababab-1"
    assert 1 == attempt_next(records, "c", "p")
    looks = [look_of(records, "c", "p", 1, hold_id_of(name, data)) for data in ("first", "second", "third")]
    assert [1, 2, 3] == looks


@pytest.mark.parametrize("evidence_text", ["", "[]", '{"run": {}}'], ids=["none", "list", "empty"])
def test_foreign_evidence_is_passed_over(evidence_text: str) -> None:
    """
    A decision that does not say whom it was about lets nothing begin.
    """
    foreign = dataclasses.replace(decided("promote", 1), evidence=evidence_text)
    assert promoted([foreign], foreign.run, DIGEST) is None
