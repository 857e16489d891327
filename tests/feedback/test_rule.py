"""The rule `feedback`: what it reads, what it says, and how often it is wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from shadow.errors import Usage
from shadow.gate.compiled import compile_tests
from shadow.gate.evidence import evidence_from_json, evidence_to_json
from shadow.gate.explain import explain, explain_lines
from shadow.gate.flip import flips_of
from shadow.gate.judgement import Verdict
from shadow.gate.measures import Evidence
from shadow.gate.observe import observe
from shadow.gate.rules import judge
from shadow.gate.run import RunState, advance, decide, fold_tile, judge_tile, state_from_bytes, state_to_bytes
from shadow.gate.stats.engine import log_e_rate
from shadow.gate.totals import evidence_from_tally
from shadow.gate.votes import StepVotes, log_e_votes, part_allowed, ratio_of, votes_by_step
from shadow.records.policy import Feedback, LiveStep, Needs, NoRegression, Policy, StagePolicy
from shadow.records.tallies import BALANCE, CELLS, FEEDBACK, Key, Tally

STEPS = (0.1, 0.5)
RULE = Feedback(1.5, STEPS, "canary/all")
CANARY = StagePolicy("canary", Needs(1, 3600, 0), (RULE,), steps=STEPS)
NEED = math.log(20)


def voted(routed, n, step=1, *, per_cell=None):
    """A tally of n negative votes of a step, spread evenly over the cells; or each `per_cell` alike and in one cell."""
    tally = Tally()
    key = Key(f"canary-{step}/all", "rates", FEEDBACK)
    hits = np.random.default_rng(7).permutation(n // (per_cell or 1)) * (per_cell or 1) < routed
    for number in range(n):
        group = number // (per_cell or 1)
        tally.count_rate(key, group % CELLS, is_hit=bool(hits[group]))
    return tally


def evidence_of(*tallies, age_s=3600.0):
    whole = Tally()
    for each in tallies:
        whole.add(each)
    return evidence_from_tally(whole, 0, stage=CANARY, attempt=1, age_s=age_s, freshness_s=0.0, log_sr=None)


def line_of(*tallies, **more):
    judgement = judge(CANARY, evidence_of(*tallies, **more), expires_s=86_400, tiles_longest_age=1440)
    return judgement, judgement.rules[0]


def test_steps_are_tested_apart_and_add_up():
    """
    Each step has its own part that the candidate may have of the votes; the logs of its tests add up.
    """
    votes = (StepVotes(0.1, 30, 200), StepVotes(0.5, 120, 200, effect=2.0), StepVotes(0.5, 99, 99, cells=39))
    caps = [1.5 * share / (1.5 * share + 1 - share) for share in STEPS]
    for side, kappas in (("le", caps), ("ge", [0.7, 0.7])):
        alone = log_e_rate(30, 200, caps[0], side, kappas[0]), log_e_rate(60, 100, caps[1], side, kappas[1])
        assert sum(alone) == pytest.approx(log_e_votes(votes, 1.5, side), abs=1e-12)
    assert (0.0, caps[0]) == (log_e_votes((), 1.5, "le"), part_allowed(0.1, 1.5))


def test_ratio_is_the_one_by_which_votes_were_drawn():
    """
    The pooled ratio finds back how many times as often users complain, from any share.
    """
    votes = tuple(StepVotes(p, round(1e6 * part_allowed(p, 2.5)), 10**6) for p in (0.01, 0.25, 0.5))
    assert 2.5 == pytest.approx(ratio_of(votes), rel=1e-3)
    assert None is ratio_of((StepVotes(0.1, 3, 3),))


def test_equal_complaints_pass():
    """
    As many complaints as the share of the sessions bring, over both steps, prove the rule.
    """
    judgement, line = line_of(voted(20, 200), voted(200, 400, step=2))
    assert (Verdict.PASS, 600, 220 / 600) == (line.verdict, line.pairs, line.estimate)
    assert (None, None, "feedback/canary/all", "") == (line.lower, line.upper, line.id, line.grader)
    assert (
        "feedback in canary/all: of 600 negative votes, 220 are on the candidate's answers, 1 x as often as on "
        "production's; proven: users complain of the candidate less than 1.5 x as often as of production (log e "
    ) in line.reason
    assert any("negative votes" in sentence for sentence in explain_lines(judgement))


def test_three_times_the_complaints_roll_back():
    """
    More complaints than the ratio allows fail, with the ratio found, and roll the run back.
    """
    judgement, line = line_of(voted(75, 300))
    assert ("rollback", ("feedback/canary/all",)) == (judgement.decision, judgement.culprits)
    assert "3 x as often as on production's; proven: users complain of the candidate more than 1.5 x" in line.reason


def test_no_votes_prove_nothing():
    """
    Without a vote, and with votes of a few sessions only, the rule holds; it never becomes BROKEN.
    """
    _, line = line_of()
    assert (Verdict.UNDECIDED, "no negative vote yet, so there is no evidence") == (line.verdict, line.reason[-45:])
    judgement, line = line_of(voted(30, 30), age_s=200_000.0)
    assert (Verdict.UNDECIDED, 0.0, 0.0) == (line.verdict, line.log_e_pass, line.log_e_fail)
    assert "30 negative votes fill 30 of 128 hash cells" in line.reason
    assert "rollback" != judgement.decision


def test_votes_of_one_session_are_worth_less():
    """
    A user who complains of every answer makes a cluster, not as many complaints.
    """
    assert line_of(voted(75, 300))[1].effect < 1.2
    assert 3 < line_of(voted(150, 600, per_cell=10))[1].effect


def test_what_would_flip_it_is_told():
    """
    While it is open, so many more votes like these pass or fail it; one fewer does not.
    """
    for tallies, verdict in (((voted(6, 60),), Verdict.PASS), ((voted(12, 60),), Verdict.FAIL)):
        evidence = evidence_of(*tallies)
        compiled = compile_tests(CANARY)
        line = judge(CANARY, evidence, expires_s=86_400, tiles_longest_age=1440).rules[0]
        ((way,),) = flips_of(compiled, [observe(RULE, evidence)], [line])
        assert (Verdict.UNDECIDED, verdict.name, "negative votes like these") == (line.verdict, way.to, way.what)
        side, need = ("ge", line.need) if verdict == Verdict.PASS else ("le", line.need_fail)
        votes, n = votes_by_step(RULE, evidence), line.pairs
        found = [log_e_votes(votes, 1.5, side, scale=1 + more / n) >= need for more in (way.count - 1, way.count)]
        assert [False, True] == found


def test_what_is_missing_are_votes():
    """
    An open rule says how many more votes like these prove it, and by when; one that they speak against, whose.
    """
    row = next(each for each in explain(line_of(voted(6, 60))[0]) if each.name == "feedback")
    assert row.missing.startswith("about ") and row.missing.endswith(" more negative votes like these")
    assert 0 < row.eta_s
    row = next(each for each in explain(line_of(voted(12, 60))[0]) if each.name == "feedback")
    assert "votes of other users" == row.missing
    assert "never at today's rate: votes like these prove nothing, however many" == row.when
    row = next(each for each in explain(line_of()[0]) if each.name == "feedback")
    assert ("votes of other users", "when cannot be told from the rate") == (row.missing, row.when)


def test_weight_is_its_kinds():
    """
    Beside another rule it has its share of the rollback average, and no part in the change detector.
    """
    stage = replace(CANARY, rules=(RULE, NoRegression("correct", slice="canary/all")))
    compiled = RunState.begin("run", Policy((stage,)), 0, "canary").compiled
    weights = {test.rule: test.weight for test in compiled.tests if not test.is_promote}
    assert {0: 0.95 * 0.05 / 0.45, 1: 0.95 * 0.40 / 0.45} == pytest.approx(weights)
    assert {1} == {compiled.tests[index].rule for index in compiled.detecting}


def test_stage_of_votes_alone_goes_on():
    """
    A run whose canary has no other rule folds, stores and reads its state, and moves on once the votes allow it.
    """
    shadow = StagePolicy("shadow", Needs(1, 3600, 0), (NoRegression("correct", margin=0.5),))
    policy = Policy((shadow, CANARY))
    state, stages = RunState.begin("run", policy, 0, "canary"), []
    state.step = 1
    for number in range(4):
        tally = voted(15 if number < 2 else 150, 150 if number < 2 else 300, step=1 if number < 2 else 2)
        step = 1 if number < 2 else 2
        for slice in ("all", "canary/all", f"canary-{step}/all"):
            tally.vector(Key(slice, "classes", ""))[0] = 256
        for cell in range(CELLS):
            key = Key(f"canary-{step}/all", "rates", BALANCE)
            for count in range(10):
                tally.count_rate(key, cell, is_hit=count < 10 * STEPS[step - 1])
        fold_tile(state, number, tally)
        judgement = judge_tile(state, with_bounds=True)
        evidence_from_json(evidence_to_json(judgement.evidence))
        decision = decide(state, judgement, positions=(0,), decided_us=0, upstream="http://candidate")
        if decision is not None:
            advance(state, decision)
            stages.append((decision.decision, number))
        state = state_from_bytes(state_to_bytes(state), policy)
    assert "promote" == stages[-1][0]
    assert "rollback" not in {name for name, _ in stages}


def test_evidence_of_canary_is_read_back():
    """
    Slices of a step, with more votes than pairs, are written and read; a stage that does not exist is refused.
    """
    evidence = evidence_of(voted(10, 100), voted(40, 80, step=2))
    assert evidence == evidence_from_json(evidence_to_json(evidence))
    assert [(10, 100), (40, 80)] == [(step.routed, step.n) for step in votes_by_step(RULE, evidence)]
    for name in ("offline-1/all", "canary-100/all", "canary-1/", "/all"):
        with pytest.raises(Usage, match="a slice's name"):
            evidence_from_json(b'{"slices": {"%s": {"pairs": 1}}}' % name.encode())


def run_of(seed, ratio, *, session=1, sides=("le", "ge"), looks=40, per_look=25):
    """The first look at which each side's test rejects, in a run whose second half is in the second step."""
    rng = np.random.default_rng(seed)
    found: dict[str, int] = {}
    totals = [Tally(), Tally()]
    for look in range(looks):
        step = 0 if look < looks // 2 else 1
        for _ in range(max(1, per_look // session)):
            is_routed, cell = bool(rng.random() < part_allowed(STEPS[step], ratio)), int(rng.integers(CELLS))
            for _ in range(session):
                key = Key(f"canary-{step + 1}/all", "rates", FEEDBACK)
                totals[step].count_rate(key, cell, is_hit=is_routed)
        votes = votes_by_step(RULE, evidence_of(*totals))
        for side in sides:
            if side not in found and log_e_votes(votes, RULE.max_ratio, side) >= NEED:
                found[side] = look
    return found


@pytest.mark.parametrize("session", [1, 5])
def test_at_the_ratio_itself_it_is_rarely_wrong(session):
    """
    At just the allowed ratio, at most 3 of 60 runs looked at 20 times reject either way, votes in sessions or alone.
    """
    found = [run_of(seed, 1.5, session=session, looks=20, per_look=50) for seed in range(60)]
    wrong = {side: sum(side in each for each in found) for side in ("le", "ge")}
    assert (True, True) == (wrong["le"] <= 3, wrong["ge"] <= 3), wrong


def test_three_times_the_complaints_are_found():
    """
    Users who complain three times as often end the run within its first step.
    """
    found = [run_of(seed, 3.0, sides=("le",), looks=20) for seed in range(20)]
    assert 20 == sum("le" in each for each in found)


def test_no_evidence_has_no_votes():
    """
    A rule without steps, as in a policy that was never filled in, sees nothing.
    """
    assert () == votes_by_step(Feedback(), Evidence())
    assert "canary-1" == LiveStep("canary", "canary-1", 0.1).name
