"""Judge a frozen suite once: the rules of the offline stage, by exact tests of one look. Pure.

rollback   some rule is proven to fail: Holm's levels over all rules, at the stage's alpha together
promote    every rule is proven, each at its own alpha, and every condition of evidence is met
hold       anything else; a suite does not grow by waiting, so only a larger one or a better candidate changes that

The rules, their null values and their sides are those of the live stages (`compile_tests`); only the tests differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from shadow.gate import sentences
from shadow.gate.compiled import RuleTest, compile_tests
from shadow.gate.intervals import NOTHING, Interval, estimate_of
from shadow.gate.judgement import Verdict, policy_tree, worst
from shadow.gate.measures import Evidence
from shadow.gate.naming import kind_of, subject_of
from shadow.gate.observe import Observation, observe
from shadow.gate.stats import exact
from shadow.gate.stats.retry import attempt_alpha
from shadow.records.decisions import HOLD, PROMOTE, ROLLBACK
from shadow.records.policy import Cap, Floor, Quality, Rule, StagePolicy, graders_named

COVERAGE_MIN: Final = 0.98
"""Least share of a slice's requests whose pair has every grade."""

_LAST_BIN: Final = 40
_ZERO_BIN: Final = 20


@dataclass(frozen=True, slots=True)
class OfflineLine:
    """One rule as judged.

    Args:
        test: The test that was used, in words.
        estimate, lower, upper: As in `shadow.gate.judgement.RuleLine`.
        p_pass: Largest p-value of its promote tests; need: what it may be at most.
        p_fail: Smallest p-value of its rollback tests, doubled where there are two; None where it has none.
        need_fail: Holm's level for it.
    """

    rule: str
    id: str
    comparison: str
    slice: str
    grader: str
    verdict: Verdict
    pairs: int
    estimate: float | None
    lower: float | None
    upper: float | None
    test: str
    p_pass: float
    need: float
    p_fail: float | None
    need_fail: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class OfflineJudgement:
    """What to do, and why.

    Args:
        decision: `promote`, `hold` or `rollback`.
        holds: Conditions of evidence that are not met, one sentence each.
        culprits: Ids of the rules that FAIL, worst first.
        reason: One sentence with the numbers.
    """

    decision: str
    rules: tuple[OfflineLine, ...]
    holds: tuple[str, ...]
    culprits: tuple[str, ...]
    reason: str
    stage: StagePolicy


@dataclass(frozen=True, slots=True)
class _Tested:
    rule: Rule
    seen: Observation
    words: str
    alpha: float
    p_pass: float
    p_fail: float | None
    interval: Interval


def judge_suite(
    stage: StagePolicy,
    evidence: Evidence,
    costs: Mapping[str, Sequence[float]],
    *,
    look: int = 1,
) -> OfflineJudgement:
    """Judge a suite.

    Args:
        stage: The offline stage.
        evidence: Counts of one run over the suite, each request once, and no two of one session.
        costs: (candidate - ratio x production) of each pair, by id of the cost rule.
        look: 1 for the first judgement of this candidate; later ones prove at a smaller level.
    """
    compiled = compile_tests(stage)
    by_rule: list[list[RuleTest]] = [[] for _ in stage.rules]
    for test in compiled.tests:
        by_rule[test.rule].append(test)
    tested = []
    for rule, name, tests in zip(stage.rules, compiled.ids, by_rule, strict=True):
        alpha = attempt_alpha(rule.alpha if isinstance(rule, Cap) else stage.alpha, look)
        tested.append(_tested(rule, _whole(rule, observe(rule, evidence)), tests, costs.get(name, ()), alpha))
    against = [each.p_fail for each in tested]
    levels = iter(exact.holm_levels([p for p in against if p is not None], stage.alpha))
    lines = tuple(
        _line(each, name, comparison, next(levels) if each.p_fail is not None else None)
        for each, name, comparison in zip(tested, compiled.ids, compiled.comparisons, strict=True)
    )
    holds = tuple(_uncovered(stage, evidence))
    decision = _decision(lines, holds)
    blamed = sorted((line for line in lines if line.verdict == Verdict.FAIL), key=lambda line: line.p_fail or 0.0)
    return OfflineJudgement(
        decision=decision,
        rules=lines,
        holds=holds,
        culprits=tuple(line.id for line in blamed) if decision == ROLLBACK else (),
        reason=_reason(decision, lines, holds, blamed),
        stage=stage,
    )


def _whole(rule: Rule, seen: Observation) -> Observation:
    """A quality of one grader has three outcomes, so it is tested as the pass/fail rule that it is."""
    if isinstance(rule, Quality) and len(rule.graders) == 1 and seen.histogram is not None:
        bins = seen.histogram
        return replace(seen, histogram=None, letters=(bins[0], bins[_ZERO_BIN], bins[_LAST_BIN]))
    return seen


def _tested(rule: Rule, seen: Observation, tests: Sequence[RuleTest], costs: Sequence[float], alpha: float) -> _Tested:
    if seen.n == 0:
        has_rollback = any(not test.is_promote for test in tests)
        return _Tested(rule, seen, "none", alpha, 1.0, 1.0 if has_rollback else None, NOTHING)
    p_values = [(test, _p_value(seen, test, costs)) for test in tests]
    against = [p for test, p in p_values if not test.is_promote]
    p_fail = min(1.0, min(against) * len(against)) if against else None
    # Our trouble proves nothing and blames nobody.
    p_fail = 1.0 if seen.trouble and p_fail is not None else p_fail
    words = _words(seen, tests)
    return _Tested(
        rule,
        seen,
        words,
        alpha,
        max(p for test, p in p_values if test.is_promote),
        p_fail,
        _interval(rule, seen, alpha),
    )


def _p_value(seen: Observation, test: RuleTest, costs: Sequence[float]) -> float:
    is_above = test.side == "le"
    if test.over == "cost":
        return exact.sign_flip_above(costs if is_above else [-cost for cost in costs])
    if seen.histogram is not None:
        return exact.bounded_p(seen.histogram, test.mean, is_above=is_above, kappa0=test.kappa0)
    low, ties, high = seen.letters
    if test.over == "rate":
        return (exact.rate_above if is_above else exact.rate_below)(high, low + high, test.mean)
    return (exact.pair_above if is_above else exact.pair_below)(low, ties, high, test.mean)


def _words(seen: Observation, tests: Sequence[RuleTest]) -> str:
    if seen.sums is not None:
        return "sign flips"
    if seen.histogram is not None:
        return "bounded mean (1/e)"
    if tests[0].over == "rate":
        return "binomial"
    means = {test.mean for test in tests}
    return "McNemar" if means == {0.0} else "paired with margin" if 0.0 not in means else "paired with margin, McNemar"


def _interval(rule: Rule, seen: Observation, alpha: float) -> Interval:
    if seen.sums is not None or seen.histogram is not None:
        return NOTHING
    low, ties, high = seen.letters
    if isinstance(rule, Cap | Floor):
        lower, upper = exact.rate_interval(high, low + high, alpha)
        return (1.0 - upper, 1.0 - lower) if isinstance(rule, Floor) else (lower, upper)
    return exact.pair_interval(low, ties, high, alpha)


def _line(tested: _Tested, name: str, comparison: str, level: float | None) -> OfflineLine:
    rule, seen = tested.rule, tested.seen
    estimate = estimate_of(rule, seen)
    numbers = f"{sentences.title(rule)}: {sentences.counted(rule, seen, estimate) if seen.n else 'no pair'}"
    p_fail = tested.p_fail
    if seen.trouble:
        verdict, reason = Verdict.BROKEN, sentences.broken(rule, seen)
    elif seen.n == 0:
        verdict = Verdict.UNDECIDED
        reason = f"{sentences.title(rule)}: no request of the suite to which it applies, so there is no evidence"
    elif p_fail is not None and level is not None and p_fail <= level:
        verdict = Verdict.FAIL
        reason = f"{numbers}; proven: {sentences.contrary(rule)} ({_p(p_fail, level)})"
    elif tested.p_pass <= tested.alpha:
        verdict = Verdict.PASS
        reason = f"{numbers}; proven: {sentences.claim(rule)} ({_p(tested.p_pass, tested.alpha)})"
    else:
        verdict = Verdict.UNDECIDED
        reason = f"{numbers}; not proven: {sentences.claim(rule)} ({_p(tested.p_pass, tested.alpha)})"
    return OfflineLine(
        rule=kind_of(rule),
        id=name,
        comparison=comparison,
        slice=rule.slice,
        grader=subject_of(rule),
        verdict=verdict,
        pairs=seen.n,
        estimate=estimate,
        lower=tested.interval[0],
        upper=tested.interval[1],
        test=tested.words,
        p_pass=tested.p_pass,
        need=tested.alpha,
        p_fail=p_fail,
        need_fail=level,
        reason=reason,
    )


def _p(value: float, level: float) -> str:
    return f"p {value:.2g}, at most {level:.2g} is needed"


def _uncovered(stage: StagePolicy, evidence: Evidence) -> list[str]:
    """Slices of which too many pairs have a broken grade: what could not be graded may be what is wrong."""
    told = []
    for name in dict.fromkeys(("all", *(rule.slice for rule in stage.rules if graders_named(rule)))):
        part = evidence.slices.get(name)
        coverage = part.coverage if part is not None else None
        if coverage is not None and coverage < COVERAGE_MIN:
            told.append(f"coverage in {name} is {coverage:.2%}, at least {COVERAGE_MIN:.0%} is needed (broken grades)")
    return told


def _decision(lines: Sequence[OfflineLine], holds: Sequence[str]) -> str:
    found = worst(line.verdict for line in lines)
    if found == Verdict.FAIL:
        return ROLLBACK
    return PROMOTE if found == Verdict.PASS and not holds else HOLD


def _reason(decision: str, lines: Sequence[OfflineLine], holds: Sequence[str], blamed: Sequence[OfflineLine]) -> str:
    if decision == ROLLBACK:
        return "; ".join(line.reason for line in blamed)
    if decision == PROMOTE:
        return f"all {len(lines)} rules are proven on the suite"
    still = sorted((line for line in lines if line.verdict != Verdict.PASS), key=lambda line: -line.verdict)
    counts = [f"{len(still)} of {len(lines)} rules not proven"] if still else []
    return f"{', '.join((*counts, *holds))}" + (f": {still[0].reason}" if still else "")


def offline_judgement_to_json(judgement: OfflineJudgement) -> dict[str, Any]:
    """A judgement as JSON-ready dictionaries; no NaN."""
    return {
        "decision": judgement.decision,
        "stage": judgement.stage.name,
        "reason": judgement.reason,
        "culprits": list(judgement.culprits),
        "holds": list(judgement.holds),
        "policy": policy_tree(judgement.stage),
        "rules": [_line_tree(line) for line in judgement.rules],
    }


def _line_tree(line: OfflineLine) -> dict[str, Any]:
    return {
        "rule": line.rule,
        "comparison": line.comparison,
        "slice": line.slice,
        "grader": line.grader,
        "verdict": line.verdict.name,
        "pairs": line.pairs,
        "estimate": line.estimate,
        "lower": line.lower,
        "upper": line.upper,
        "test": line.test,
        "p_pass": line.p_pass,
        "need": line.need,
        "p_fail": line.p_fail,
        "need_fail": line.need_fail,
        "reason": line.reason,
    }
