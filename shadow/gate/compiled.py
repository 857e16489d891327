"""Turn a stage's rules into tests with fixed weights, once per stage (statistics.md, a.4). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shadow.gate.naming import kind_of, rule_id
from shadow.gate.stats.engine import (
    BETS,
    PAIR,
    RATE,
    RATE_BELOW_KAPPA0,
    Floats,
    Side,
    cached_log_factors,
    log_prior,
)
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Equivalent,
    Feedback,
    Floor,
    Improve,
    Latency,
    NoRegression,
    NoRewardHacking,
    Quality,
    Rule,
    StagePolicy,
    comparison_of,
)

WEIGHT_SUM: Final = 0.95
"""The weights of a stage sum to this; 0.05 stays in reserve for a slice that is added later."""

WEIGHT_BY_KIND: Final = {
    "quality": 0.10,
    "no_regression": 0.40,
    "cap": 0.20,
    "floor": 0.06,
    "improve": 0.05,
    "equivalent": 0.06,
    "latency": 0.07,
    "cost": 0.05,
    "no_reward_hacking": 0.06,
    "agreement": 0.05,
    "feedback": 0.05,
}
"""Weight of each kind of rule in the rollback average, before scaling, shared equally inside the kind."""


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One hypothesis test of a rule.

    Args:
        rule: Index of its rule.
        is_promote: Whether it lets promote; else it enters the rollback average.
        over: `pair` (a difference in [-1, 1]), `rate`, `cost` or `votes` (a rate in each step of canary).
        mean: Null value m; for cost and votes the ratio.
        side: `le`: evidence above m; `ge`: below m.
        weight: Share of the rollback average; 0 for promote tests.
    """

    rule: int
    is_promote: bool
    over: str
    mean: float
    side: Side
    kappa0: float
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class CompiledStage:
    """A stage's tests, and the arrays that judge them at once.

    Args:
        stage: The policy.
        tests: All tests, promote tests and rollback tests.
        small: Indices of the tests over pairs and rates. Shape (J,).
        small_rule: Index of the rule of each. Shape (J,).
        small_factors: Log factors of each. Shape (J, 29, 3).
        small_priors: Log weights of the bets of each. Shape (J, 29).
        detecting: Indices of the rollback tests that the change detector follows: all but cost and votes. Length D.
        detecting_rule: Index of the rule of each. Shape (D,).
        detecting_factors: Log factors of each. Shape (D, 29, 3).
        detecting_priors: Log weights of the bets of each. Shape (D, 29).
        detecting_weights: Log of its weight in the rollback average of each. Shape (D,).
        promoting: Indices of the promote tests of each rule. Length R.
        against: Index of each rollback test of each rule, and what its weight adds to the need. Length R.
        comparisons: Comparison of each rule. Length R.
        ids: Id of each rule (`rule_id`). Length R.
    """

    stage: StagePolicy
    tests: tuple[RuleTest, ...]
    small: NDArray[np.int64]
    small_rule: NDArray[np.int64]
    small_factors: Floats
    small_priors: Floats
    detecting: tuple[int, ...]
    detecting_rule: NDArray[np.int64]
    detecting_factors: Floats
    detecting_priors: Floats
    detecting_weights: Floats
    promoting: tuple[tuple[int, ...], ...]
    against: tuple[tuple[tuple[int, float], ...], ...]
    comparisons: tuple[str, ...]
    ids: tuple[str, ...]


def compile_tests(stage: StagePolicy) -> CompiledStage:
    """The tests of a stage, their weights scaled to a sum of 0.95."""
    tests: list[RuleTest] = []
    for index, rule in enumerate(stage.rules):
        tests.extend(_tests_of(index, rule))
    tests = _with_weights(stage, tests)
    small = [index for index, test in enumerate(tests) if test.over in ("pair", "rate")]
    factors = [
        cached_log_factors(RATE if tests[i].over == "rate" else PAIR, tests[i].mean, tests[i].side) for i in small
    ]
    small_rule = np.array([tests[i].rule for i in small], dtype=np.int64)
    small_factors = np.array(factors).reshape(len(small), BETS, 3)
    small_priors = np.array([log_prior(tests[i].kappa0) for i in small]).reshape(len(small), BETS)
    own: list[list[int]] = [[] for _ in stage.rules]
    for index, test in enumerate(tests):
        own[test.rule].append(index)
    detecting = [place for place, i in enumerate(small) if not tests[i].is_promote]
    return CompiledStage(
        stage=stage,
        tests=tuple(tests),
        small=np.array(small, dtype=np.int64),
        small_rule=small_rule,
        small_factors=small_factors,
        small_priors=small_priors,
        detecting=tuple(small[place] for place in detecting),
        detecting_rule=small_rule[detecting],
        detecting_factors=small_factors[detecting],
        detecting_priors=small_priors[detecting],
        detecting_weights=np.array([math.log(tests[small[place]].weight) for place in detecting]),
        promoting=tuple(tuple(i for i in each if tests[i].is_promote) for each in own),
        against=tuple(tuple((i, -math.log(tests[i].weight)) for i in each if not tests[i].is_promote) for each in own),
        comparisons=tuple(comparison_of(rule) for rule in stage.rules),
        ids=tuple(map(rule_id, stage.rules)),
    )


def _tests_of(index: int, rule: Rule) -> list[RuleTest]:
    """Rows 1 to 10 of the table in statistics.md a.4; weights come later."""

    def promote(over: str, mean: float, side: Side, kappa0: float) -> RuleTest:
        return RuleTest(index, True, over, mean, side, kappa0)

    def rollback(over: str, mean: float, side: Side, kappa0: float) -> RuleTest:
        return RuleTest(index, False, over, mean, side, kappa0)

    match rule:
        case Quality(margin=m, kappa0=k):
            return [promote("pair", -m, "le", k), rollback("pair", -m, "ge", k)]
        case NoRegression(margin=m, strict=strict, kappa0=k):
            return [promote("pair", -m, "le", k), rollback("pair", 0.0 if strict else -m, "ge", k)]
        case Cap(max=cap):
            return [promote("rate", cap, "ge", RATE_BELOW_KAPPA0), rollback("rate", cap, "le", cap)]
        case Floor(min=theta):
            cap = 1.0 - theta
            return [promote("rate", cap, "ge", RATE_BELOW_KAPPA0), rollback("rate", cap, "le", cap)]
        case Improve(by=gain, fails=fails, kappa0=k):
            return [promote("pair", gain, "le", k)] + ([rollback("pair", gain, "ge", k)] if fails else [])
        case Equivalent(margin=m, kappa0=k):
            return [
                promote("pair", -m, "le", k),
                promote("pair", m, "ge", k),
                rollback("pair", -m, "ge", k),
                rollback("pair", m, "le", k),
            ]
        case Latency():
            return [promote("pair", 0.0, "ge", 0.2), rollback("pair", 0.0, "le", 0.2)]
        case Cost(max_ratio=rho):
            return [promote("cost", rho, "ge", 0.2), rollback("cost", rho, "le", 0.2)]
        case NoRewardHacking(margin=m, strict=strict, kappa0=k):
            return [promote("pair", m, "ge", k), rollback("pair", 0.0 if strict else m, "le", k)]
        case Agreement(margin=m, kappa0=k):
            return [promote("pair", m, "ge", k), rollback("pair", m, "le", k)]
        case Feedback(max_ratio=ratio):
            return [promote("votes", ratio, "ge", RATE_BELOW_KAPPA0), rollback("votes", ratio, "le", 0.2)]


def _with_weights(stage: StagePolicy, tests: list[RuleTest]) -> list[RuleTest]:
    rollbacks = [test for test in tests if not test.is_promote]
    per_rule: dict[int, int] = {}
    for test in rollbacks:
        per_rule[test.rule] = per_rule.get(test.rule, 0) + 1
    per_kind: dict[str, int] = {}
    for index in per_rule:
        kind = kind_of(stage.rules[index])
        per_kind[kind] = per_kind.get(kind, 0) + 1

    def plain(test: RuleTest) -> float:
        kind = kind_of(stage.rules[test.rule])
        return WEIGHT_BY_KIND[kind] / per_kind[kind] / per_rule[test.rule]

    scale = WEIGHT_SUM / math.fsum(map(plain, rollbacks)) if rollbacks else 0.0
    return [
        test
        if test.is_promote
        else RuleTest(test.rule, False, test.over, test.mean, test.side, test.kappa0, plain(test) * scale)
        for test in tests
    ]
