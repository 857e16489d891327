"""Judge the evidence of a stage by its rules (statistics.md, a.4 and a.5). Pure.

rollback   the weighted average of one comparison's rollback tests, or its change detector, is over the threshold
promote    every promote test passes now, and every condition of evidence is met; in `watch`, its time is over
expire     the stage is as old as it may become
hold       anything else
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from shadow.gate.compiled import CompiledStage, compile_tests
from shadow.gate.conditions import FRESHNESS_S_MAX, conditions_of
from shadow.gate.intervals import NOTHING, Interval, estimate_of, intervals_of
from shadow.gate.judgement import Condition, Judgement, Rollback, RuleLine, Verdict, judgement_to_json, worst
from shadow.gate.measures import Evidence
from shadow.gate.naming import kind_of, subject_of
from shadow.gate.observe import Observation, observe
from shadow.gate.stats.asymptotic import log_e_ratio
from shadow.gate.stats.average import e_bh, log_average
from shadow.gate.stats.detector import need_sr
from shadow.gate.stats.engine import Floats, log_e_histogram, log_e_many
from shadow.gate.stats.retry import attempt_alpha
from shadow.gate.votes import log_e_votes
from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.records.decisions import EXPIRE, HOLD, PROMOTE, ROLLBACK
from shadow.records.policy import Cap, Improve, LiveStep, Rule, StagePolicy

__all__ = ["Judgement", "Verdict", "compile_tests", "judge", "judgement_to_json", "worst"]

AVERAGE_SHARE = 0.8
"""Part of a stage's alpha that the weighted average may spend."""
DETECTOR_SHARE = 0.2
"""Part of it that the change detector may spend."""
IMPROVE_PAIRS_MIN = 500
JOINT_EVIDENCE = "joint evidence"


def judge(
    stage: StagePolicy | CompiledStage,
    evidence: Evidence,
    *,
    expires_s: float,
    tiles_longest_age: int,
    freshness_s_max: float = FRESHNESS_S_MAX,
    detector: Mapping[str, float] | None = None,
    with_bounds: bool = True,
    seen: Sequence[Observation] | None = None,
    step: LiveStep | None = None,
) -> Judgement:
    """Judge a stage's totals.

    Does not latch: a caller that folds tiles keeps a rollback once it was said.

    Args:
        stage: The policy, or the same compiled once with `compile_tests`.
        evidence: Totals of all closed tiles of the stage.
        expires_s: Longest age of the stage.
        tiles_longest_age: T, the number of tiles in it, fixed at its start.
        freshness_s_max: Accepted age of the newest tile where the policy does not say.
        detector: Log of each rule's part of the change detector, by rule id; orders the suspects.
        with_bounds: Whether lines carry confidence bounds, which no decision needs (about 0.1 ms a rule).
        seen: What each rule sees of this evidence, where the caller has observed it already.
        step: Step in which the candidate serves live requests; None in `shadow`.
    """
    compiled = stage if isinstance(stage, CompiledStage) else compile_tests(stage)
    rules = compiled.stage.rules
    if seen is None:
        seen = [observe(rule, evidence) for rule in rules]
    log_es = log_es_of(compiled, seen)
    alphas = [_alpha(rule, compiled.stage) for rule in rules]
    levels = {alpha: attempt_alpha(alpha, evidence.attempt) for alpha in dict.fromkeys(alphas)}
    alphas = [levels[alpha] for alpha in alphas]
    need = math.log(1 / (AVERAGE_SHARE * compiled.stage.alpha))
    intervals = intervals_of(rules, seen, alphas) if with_bounds else [NOTHING] * len(rules)
    lines = tuple(
        _line(compiled, index, observation, log_es, math.log(1 / alpha), need, interval)
        for index, (observation, alpha, interval) in enumerate(zip(seen, alphas, intervals, strict=True))
    )
    rollback = Rollback(
        log_e=max(log_average(*_rollback_tests(compiled, log_es, group)) for group in groups_of(compiled)),
        need=need,
        log_sr=evidence.log_sr,
        need_sr=need_sr(tiles_longest_age, DETECTOR_SHARE * compiled.stage.alpha),
    )
    conditions = conditions_of(compiled.stage, evidence, freshness_s_max, step)
    decision = _decision(compiled.stage, lines, conditions, rollback, evidence.age_s, expires_s)
    culprits = _culprits(compiled, lines, log_es, rollback, detector) if decision == ROLLBACK else ()
    return Judgement(
        decision=decision,
        rules=lines,
        conditions=conditions,
        rollback=rollback,
        culprits=culprits,
        reason=_reason(compiled.stage, decision, lines, conditions, rollback, culprits, evidence.age_s, expires_s),
        stage=compiled.stage,
        evidence=evidence,
    )


def _alpha(rule: Rule, stage: StagePolicy) -> float:
    return rule.alpha if isinstance(rule, Cap) else stage.alpha


def effective_letters(seen: Sequence[Observation]) -> Floats:
    """Counts of pairs and rates over their design effects; 0 where they are no evidence. Shape (R, 3)."""
    letters = np.array([observation.letters for observation in seen], dtype=np.float64).reshape(-1, 3)
    effects = np.array([o.effect if o.is_spread else np.inf for o in seen])
    return np.asarray(letters / effects[:, None])


def log_es_of(compiled: CompiledStage, seen: Sequence[Observation]) -> list[float]:
    """Log e-value of every test, at most 0 for the rollback tests of a BROKEN rule: our trouble blames nobody."""
    log_es = [0.0] * len(compiled.tests)
    small = log_e_many(
        effective_letters(seen)[compiled.small_rule], compiled.small_factors, compiled.small_priors
    ).tolist()
    for index, value in zip(compiled.small.tolist(), small, strict=True):
        log_es[index] = value
    for index, test in enumerate(compiled.tests):
        observation = seen[test.rule]
        if observation.votes is not None:
            log_es[index] = log_e_votes(observation.votes, test.mean, test.side)
        elif observation.histogram is not None and observation.is_spread:
            counts = np.array(observation.histogram) / observation.effect
            log_es[index] = log_e_histogram(counts.tolist(), test.mean, test.side, test.kappa0)
        elif observation.sums is not None and observation.is_spread:
            log_es[index] = log_e_ratio(observation.sums, test.mean, is_above=test.side == "le")
        if observation.trouble and not test.is_promote:
            log_es[index] = min(log_es[index], 0.0)
    return log_es


def groups_of(compiled: CompiledStage) -> tuple[str, ...]:
    """The comparisons that a stage's rules read, the main one first and always."""
    return tuple(dict.fromkeys((CANDIDATE_PRODUCTION, *compiled.comparisons)))


def _rollback_tests(compiled: CompiledStage, log_es: Sequence[float], group: str) -> tuple[list[float], list[float]]:
    """Log e-values and weights of one comparison's rollback tests. All weights together sum to 0.95."""
    pairs = [
        (e, test.weight)
        for test, e in zip(compiled.tests, log_es, strict=True)
        if not test.is_promote and compiled.comparisons[test.rule] == group
    ]
    return [e for e, _ in pairs], [weight for _, weight in pairs]


def _line(
    compiled: CompiledStage,
    index: int,
    seen: Observation,
    log_es: Sequence[float],
    need: float,
    need_average: float,
    interval: Interval,
) -> RuleLine:
    rule = compiled.stage.rules[index]
    log_e_pass = min([log_es[test] for test in compiled.promoting[index]])
    # The test that is nearest to its threshold speaks for the rule; two tests of one rule weigh the same.
    against = [(log_es[test], need_average + more) for test, more in compiled.against[index]]
    log_e_fail, need_fail = max(against) if against else (None, None)
    is_proven = log_e_pass >= need and not (isinstance(rule, Improve) and seen.n < IMPROVE_PAIRS_MIN)
    if log_e_fail is not None and need_fail is not None and log_e_fail >= need_fail and not seen.trouble:
        verdict = Verdict.FAIL
    elif seen.trouble:
        verdict = Verdict.BROKEN
    else:
        verdict = Verdict.PASS if is_proven else Verdict.UNDECIDED
    return RuleLine(
        rule=kind_of(rule),
        id=compiled.ids[index],
        comparison=compiled.comparisons[index],
        slice=rule.slice,
        grader=subject_of(rule),
        verdict=verdict,
        pairs=seen.n,
        estimate=estimate_of(rule, seen),
        lower=interval[0],
        upper=interval[1],
        log_e_pass=log_e_pass,
        log_e_fail=log_e_fail,
        need=need,
        need_fail=need_fail,
        effect=seen.effect,
        judged=rule,
        seen=seen,
    )


def _decision(
    stage: StagePolicy,
    lines: Sequence[RuleLine],
    conditions: Sequence[Condition],
    rollback: Rollback,
    age_s: float,
    expires_s: float,
) -> str:
    if rollback.by_average or rollback.by_detector:
        return ROLLBACK
    if stage.for_s is not None:
        return PROMOTE if age_s >= expires_s else HOLD
    if lines and worst(line.verdict for line in lines) == Verdict.PASS and all(c.is_met for c in conditions):
        return PROMOTE
    return EXPIRE if age_s >= expires_s else HOLD


def _culprits(
    compiled: CompiledStage,
    lines: Sequence[RuleLine],
    log_es: Sequence[float],
    rollback: Rollback,
    detector: Mapping[str, float] | None,
) -> tuple[str, ...]:
    """Rules that FAIL, worst first; else `joint evidence` and the suspects in e-BH order."""
    blamed = [line for line in lines if line.verdict == Verdict.FAIL]
    if blamed:
        blamed.sort(key=lambda line: -((line.log_e_fail or 0.0) - (line.need_fail or 0.0)))
        return tuple(line.id for line in blamed)
    if detector and not rollback.by_average:
        # A late onset: the totals still look fine, and the detector's own parts say where it began.
        ranked = sorted(detector.items(), key=lambda item: (-item[1], item[0]))
        return (JOINT_EVIDENCE, *(name for name, log_r in ranked[:3] if log_r >= ranked[0][1] - math.log(10)))
    tests = [(test, e) for test, e in zip(compiled.tests, log_es, strict=True) if not test.is_promote]
    order, rejected = e_bh([e for _, e in tests], compiled.stage.alpha)
    suspects = [tests[index] for index in order[: max(rejected, 3)]]
    names = dict.fromkeys(compiled.ids[test.rule] for test, e in suspects if e > 0)
    return (JOINT_EVIDENCE, *names)


def _reason(
    stage: StagePolicy,
    decision: str,
    lines: Sequence[RuleLine],
    conditions: Sequence[Condition],
    rollback: Rollback,
    culprits: Sequence[str],
    age_s: float,
    expires_s: float,
) -> str:
    if decision == ROLLBACK:
        return _rollback_reason(lines, rollback, culprits)
    if stage.for_s is not None:
        end = "nothing was found against it" if decision == PROMOTE else "nothing is found against it so far"
        return f"{stage.name} has lasted {age_s:,.0f} s of {expires_s:,.0f} s: {end}"
    if decision == PROMOTE:
        return f"all {len(lines)} rules are proven and all {len(conditions)} conditions of evidence are met"
    open_lines = sorted((line for line in lines if line.verdict != Verdict.PASS), key=lambda line: -line.verdict)
    unmet = [condition for condition in conditions if not condition.is_met]
    first = [line.reason for line in open_lines[:1]] + [condition.reason for condition in unmet[:2]]
    counts = [f"{len(open_lines)} of {len(lines)} rules not proven"] if open_lines else []
    counts += [f"{len(unmet)} of {len(conditions)} conditions of evidence not met"] if unmet else []
    told = f"{', '.join(counts)}: {'; '.join(first)}" if lines else "the stage has no rules, so nothing can be proven"
    return f"after {age_s:,.0f} s of {expires_s:,.0f} s, {told}" if decision == EXPIRE else told


def _rollback_reason(lines: Sequence[RuleLine], rollback: Rollback, culprits: Sequence[str]) -> str:
    if rollback.by_average:
        cause = f"the weighted evidence has log e {rollback.log_e:.2f} of {rollback.need:.2f}"
    else:
        cause = f"the change detector has log R {rollback.log_sr:.2f} of {rollback.need_sr:.2f}"
    by_id = {line.id: line.reason for line in lines if line.verdict == Verdict.FAIL}
    blamed = [by_id[name] for name in culprits if name in by_id]
    if blamed:
        return f"{cause}; {'; '.join(blamed)}"
    return f"{cause}; no rule alone is proven to fail, jointly suspected: {', '.join(culprits[1:]) or 'none'}"
