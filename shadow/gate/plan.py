"""What a policy can prove, and when, at a given traffic; what it would find; and what it can never prove in time. Pure.

    rate ──► pairs by hour t ──► chance that each rule is proven ──► their product, once the volume is there

Every rule is planned as if the candidate were as good as production (better by `gain` where a rule demands a gain),
and all rules as if they were independent; both are stated with the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shadow.gate.compiled import CompiledStage, compile_tests
from shadow.gate.laws import Assumed, Detectable, Law, detectable, law_of, pairs_needed
from shadow.gate.naming import kind_of, subject_of
from shadow.gate.rules import AVERAGE_SHARE, IMPROVE_PAIRS_MIN
from shadow.gate.sentences import claim, title
from shadow.gate.stats.power import LIKELY
from shadow.gate.stats.retry import attempt_alpha
from shadow.records.policy import CANARY, Cap, Improve, Latency, NoRegression, Policy, Rule, StagePolicy
from shadow.records.slices import ALL

REFERENCE_ANSWERS: Final = 1000
"""Production answers from which a latency rule without a reference takes one, and which it leaves out."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Pairs an hour.

    Args:
        rules: To which each rule applies. Length R.
        slices: Of candidate and production, by slice: `all`, and every slice that a rule names.
    """

    rules: tuple[float, ...]
    slices: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RulePlan:
    """What one rule will have, need and find.

    Args:
        pairs_by, pairs_expires: Pairs to which it applies by the hour asked for, and when the run expires.
        needs: Pairs to pass on average. likely: for nine runs in ten. None: never, or not foreseen (`is_planned`).
        chance_by, chance_expires: Chance that it is proven by then, in [0, 1].
        likely_s: When it is proven in nine runs of ten; None: not before the run expires.
        finds: The smallest regression that it alone rolls back, by the hour asked for; None: it rolls nothing back.
        refusal: Why it cannot be proven in time, in one sentence; empty if it can.
    """

    rule: str
    slice: str
    grader: str
    is_planned: bool
    pairs_by: float
    pairs_expires: float
    needs: float | None
    likely: float | None
    chance_by: float
    chance_expires: float
    likely_s: float | None
    finds: Detectable | None
    refusal: str


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """When a condition of volume is met; None: never, and `refusal` says why."""

    condition: str
    slice: str
    need: int
    at_s: float | None
    refusal: str


@dataclass(frozen=True, slots=True)
class StepPlan:
    """When a step of canary has its pairs.

    Args:
        share: Of the sessions that the candidate serves, in (0, 1].
        need: Pairs of the step alone.
        takes_s: How long they take at the rate of the copies; None: the stage's window never holds so many.
    """

    name: str
    share: float
    need: int
    takes_s: float | None
    refusal: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of the shadow stage, of the steps behind it, and what all stages may spend.

    Args:
        by_s: The hour asked for.
        earliest_s: When every condition of volume is met and every rule has its average pairs; None: not in time.
        likely_s: When the chance of a promotion reaches nine in ten; None: not in time.
        last: What is proven last.
        chance_by, chance_expires: Chance that a candidate as good as supposed is promoted by then.
        alphas: False-rollback budget by stage.
        steps: Of canary, in their order; none where the policy has no canary.
    """

    stage: str
    by_s: float
    expires_s: float
    rules: tuple[RulePlan, ...]
    volume: tuple[VolumePlan, ...]
    earliest_s: float | None
    likely_s: float | None
    last: str
    chance_by: float
    chance_expires: float
    alphas: Mapping[str, float]
    assumed: Assumed
    steps: tuple[StepPlan, ...] = ()

    @property
    def alpha_sum(self) -> float:
        """At most this is the chance that a candidate without fault is rolled back in any of the stages."""
        return sum(self.alphas.values())

    @property
    def refusals(self) -> tuple[str, ...]:
        """What cannot be proven in time, one sentence each."""
        said = [each.refusal for plans in (self.volume, self.rules, self.steps) for each in plans]
        return tuple(refusal for refusal in said if refusal)


@dataclass(frozen=True, slots=True)
class _Clock:
    """When a rule's pairs are there: at a rate, behind a lag, some left out, some counting as one."""

    per_h: float
    lag_s: float
    left_out: int
    effect: float

    def pairs(self, at_s: float) -> float:
        return max(0.0, self.per_h * max(0.0, at_s - self.lag_s) / 3600 - self.left_out)

    def counted(self, at_s: float) -> float:
        return self.pairs(at_s) / self.effect

    def at_s(self, counted: float) -> float:
        if self.per_h <= 0 or not math.isfinite(counted):
            return math.inf
        return self.lag_s + 3600 * (counted * self.effect + self.left_out) / self.per_h


def plan(policy: Policy, rates: Rates, *, by_s: float, assumed: Assumed, attempt: int = 1) -> Plan:
    """Plan the shadow stage of a policy, and the volume of the steps behind it.

    Args:
        rates: Pairs an hour, one a rule of that stage.
        by_s: The hour at which the plan is read, seconds from the start.
        attempt: Ordinal of the run among those of its candidate and production; later ones may spend less.

    Raises:
        ValueError: If the policy has no shadow stage, or the rates are not one a rule.
    """
    stage = next((each for each in policy.stages if each.name == "shadow"), None)
    if stage is None or len(rates.rules) != len(stage.rules):
        raise ValueError(f"{len(rates.rules)} rates are given for {'no stage' if stage is None else stage.rules}")
    compiled = compile_tests(stage)
    alphas = [attempt_alpha(rule.alpha if isinstance(rule, Cap) else stage.alpha, attempt) for rule in stage.rules]
    laws = [law_of(rule, alpha, assumed) for rule, alpha in zip(stage.rules, alphas, strict=True)]
    clocks = [
        _clock(policy, compiled, index, per_h, assumed.effect, is_certain=law is None)
        for index, (per_h, law) in enumerate(zip(rates.rules, laws, strict=True))
    ]
    expires_s = float(policy.expires_s)
    rules = tuple(
        _rule_plan(compiled, index, law, clock, by_s=by_s, expires_s=expires_s, assumed=assumed)
        for index, (law, clock) in enumerate(zip(laws, clocks, strict=True))
    )
    volume = _volume_plans(stage, rates, policy)
    foreseen = [(law, clock) for law, clock in zip(laws, clocks, strict=True) if law is not None]
    ready_s = max((math.inf if each.at_s is None else each.at_s) for each in volume)

    def chance(at_s: float) -> float:
        if at_s < ready_s:
            return 0.0
        return math.prod(law.chance(clock.counted(at_s)) for law, clock in foreseen)

    times = {f"{each.condition} of {each.slice}": math.inf if each.at_s is None else each.at_s for each in volume}
    times |= {
        title(rule): clock.at_s(law.average())
        for rule, law, clock in zip(stage.rules, laws, clocks, strict=True)
        if law is not None
    }
    last = max(times, key=lambda name: times[name])
    return Plan(
        stage=stage.name,
        by_s=by_s,
        expires_s=expires_s,
        rules=rules,
        volume=volume,
        earliest_s=times[last] if times[last] <= expires_s else None,
        likely_s=_first_s(lambda at_s: chance(at_s) >= LIKELY, expires_s),
        last=last,
        chance_by=chance(by_s),
        chance_expires=chance(expires_s),
        alphas={each.name: each.alpha for each in policy.stages},
        assumed=assumed,
        steps=_step_plans(policy, rates.slices[ALL], times[last]),
    )


def _clock(
    policy: Policy, compiled: CompiledStage, index: int, per_h: float, effect: float, *, is_certain: bool
) -> _Clock:
    rule = compiled.stage.rules[index]
    # A tile is evidence when it closes; those of another comparison are folded its deadline later.
    lag_tiles = 1 + policy.lag_tiles(compiled.comparisons[index])
    has_own_reference = isinstance(rule, Latency) and rule.reference_us is None
    left_out = REFERENCE_ANSWERS if has_own_reference and not is_certain else 0
    return _Clock(per_h, lag_tiles * policy.tile_us / 1e6, left_out, effect)


def _rule_plan(
    compiled: CompiledStage,
    index: int,
    law: Law | None,
    clock: _Clock,
    *,
    by_s: float,
    expires_s: float,
    assumed: Assumed,
) -> RulePlan:
    rule = compiled.stage.rules[index]
    needs, likely = (law.average(), pairs_needed(law)) if law is not None else (math.inf, math.inf)
    likely_s = clock.at_s(likely)
    return RulePlan(
        rule=kind_of(rule),
        slice=rule.slice,
        grader=subject_of(rule),
        is_planned=law is not None,
        pairs_by=clock.pairs(by_s),
        pairs_expires=clock.pairs(expires_s),
        needs=_finite(needs * assumed.effect),
        likely=_finite(likely * assumed.effect),
        chance_by=law.chance(clock.counted(by_s)) if law is not None else 0.0,
        chance_expires=law.chance(clock.counted(expires_s)) if law is not None else 0.0,
        likely_s=likely_s if likely_s <= expires_s else None,
        finds=_finds(compiled, index, clock.counted(by_s), assumed),
        refusal=_refusal(rule, law, likely * assumed.effect, clock, expires_s, assumed),
    )


def rollback_alpha(compiled: CompiledStage, index: int) -> float | None:
    """Level at which a rule's own test alone crosses the stage's rollback threshold; None where it has none."""
    weights = [test.weight for test in compiled.tests if test.rule == index and not test.is_promote]
    return AVERAGE_SHARE * compiled.stage.alpha * max(weights) if weights else None


def _finds(compiled: CompiledStage, index: int, pairs: float, assumed: Assumed) -> Detectable | None:
    alpha = rollback_alpha(compiled, index)
    if alpha is None:
        return None
    return detectable(compiled.stage.rules[index], pairs, alpha, assumed.psi, assumed.psi_hacking)


def _refusal(rule: Rule, law: Law | None, likely: float, clock: _Clock, expires_s: float, assumed: Assumed) -> str:
    has = clock.pairs(expires_s)
    if law is None or likely <= has:
        return ""
    brings = f"the traffic brings {has:,.0f} by expires"
    if isinstance(rule, Improve) and assumed.gain is None:
        # How much better the candidate is, nobody knows beforehand; fewer pairs than these prove no gain at all.
        least = IMPROVE_PAIRS_MIN * assumed.effect
        return f"{title(rule)}: at least {least:,.0f} pairs are needed, and {brings}" if has < least else ""
    if not math.isfinite(likely):
        return f"{title(rule)}: such a candidate is never proven ({claim(rule)}), whatever the traffic"
    cure = ""
    if isinstance(rule, NoRegression) and has > 0:
        least_margin = math.ceil(1000 * rule.margin * math.sqrt(likely / has)) / 1000
        cure = f"; the margin must be at least {least_margin:g}, or the pairs more" if least_margin < 1 else ""
    return f"{title(rule)}: about {likely:,.0f} pairs are needed for the proof ({claim(rule)}), and {brings}{cure}"


def _volume_plans(stage: StagePolicy, rates: Rates, policy: Policy) -> tuple[VolumePlan, ...]:
    needs, tile_s = stage.needs, policy.tile_us / 1e6
    window = rates.slices[ALL] * needs.within_s / 3600
    at_s = tile_s + 3600 * needs.pairs / rates.slices[ALL] if window >= needs.pairs else math.inf
    hours = f"{needs.within_s / 3600:g} h"
    refusal = f"volume: the stage needs {needs.pairs:,} pairs within {hours}, and the traffic brings {window:,.0f}"
    found = [_volume("volume", ALL, needs.pairs, at_s, policy, refusal)]
    for slice in dict.fromkeys(rule.slice for rule in stage.rules):
        per_h = rates.slices[slice]
        at_s = tile_s + 3600 * needs.slice_pairs / per_h if per_h > 0 else math.inf
        brings = per_h * policy.expires_s / 3600
        refusal = (
            f"slice_volume: {slice} needs {needs.slice_pairs:,} pairs, and the traffic brings {brings:,.0f} by expires"
            " (a quota in proxy.mirror.quotas raises a rare slice)"
        )
        found.append(_volume("slice_volume", slice, needs.slice_pairs, at_s, policy, refusal))
    return tuple(found)


def _step_plans(policy: Policy, per_h: float, promoted_s: float) -> tuple[StepPlan, ...]:
    """The steps of canary, each with the pairs of its share; together they end before the run expires, or are refused.

    Args:
        per_h: Pairs an hour of slice `all` in the shadow stage.
        promoted_s: When the first step begins at the earliest.
    """
    found: list[StepPlan] = []
    # A shadow stage that proves nothing in time is refused by itself.
    until_s = promoted_s if promoted_s <= policy.expires_s else 0.0
    for step in policy.live_steps:
        if step.stage != CANARY:
            continue
        needs = policy.stage(CANARY).needs
        told = (
            f"{step.name}: {needs.pairs:,} pairs are needed of the {100 * step.share:.4g} % of sessions that it serves"
        )
        window = per_h * step.share * needs.within_s / 3600
        takes_s, refusal = None, ""
        if window < needs.pairs:
            refusal = f"{told}, within {needs.within_s / 3600:g} h, and the traffic brings {window:,.0f}"
        else:
            takes_s = policy.tile_us / 1e6 + 3600 * needs.pairs / (per_h * step.share)
            until_s += takes_s
            if until_s > policy.expires_s >= until_s - takes_s:
                refusal = f"{told}, and after all before them they are there at {until_s / 3600:,.1f} h, past expires"
        found.append(StepPlan(step.name, step.share, needs.pairs, takes_s, refusal))
    return tuple(found)


def _volume(name: str, slice: str, need: int, at_s: float, policy: Policy, refusal: str) -> VolumePlan:
    is_in_time = at_s <= policy.expires_s
    return VolumePlan(name, slice, need, at_s if is_in_time else None, "" if is_in_time else refusal)


def _first_s(is_there: Callable[[float], bool], most_s: float) -> float | None:
    """The first moment from which something holds; None where it does not hold at the end."""
    if not is_there(most_s):
        return None
    low, high = 0.0, most_s
    while high - low > 1.0:
        middle = (low + high) / 2
        low, high = (low, middle) if is_there(middle) else (middle, high)
    return high


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plan_to_json(found: Plan) -> dict[str, object]:
    """A plan as JSON-ready dictionaries; what does not exist is null."""
    return {
        "stage": found.stage,
        "by_s": found.by_s,
        "expires_s": found.expires_s,
        "rules": [_rule_tree(each) for each in found.rules],
        "volume": [
            {"condition": each.condition, "slice": each.slice, "need": each.need, "at_s": each.at_s}
            for each in found.volume
        ],
        "promote": {
            "earliest_s": found.earliest_s,
            "likely_s": found.likely_s,
            "last": found.last,
            "chance_by": found.chance_by,
            "chance_expires": found.chance_expires,
        },
        "steps": [
            {"step": each.name, "share": each.share, "need": each.need, "takes_s": each.takes_s} for each in found.steps
        ],
        "alpha": {"stages": dict(found.alphas), "sum": found.alpha_sum},
        "assumed": {
            "psi": found.assumed.psi,
            "psi_hacking": found.assumed.psi_hacking,
            "gain": found.assumed.gain,
            "design_effect": found.assumed.effect,
        },
        "refused": list(found.refusals),
    }


def _rule_tree(each: RulePlan) -> dict[str, object]:
    finds = None if each.finds is None else {"unit": each.finds.unit, "value": each.finds.value}
    return {
        "rule": each.rule,
        "slice": each.slice,
        "grader": each.grader,
        "is_planned": each.is_planned,
        "pairs_by": each.pairs_by,
        "pairs_expires": each.pairs_expires,
        "pairs_average": each.needs,
        "pairs_likely": each.likely,
        "chance_by": each.chance_by,
        "chance_expires": each.chance_expires,
        "likely_s": each.likely_s,
        "finds": finds,
    }


def rates_of(rules: Sequence[Rule], rule_per_h: Callable[[Rule], float], slice_per_h: Callable[[str], float]) -> Rates:
    """Rates of a stage's rules and slices."""
    slices = dict.fromkeys((ALL, *(rule.slice for rule in rules)))
    return Rates(tuple(map(rule_per_h, rules)), {name: slice_per_h(name) for name in slices})
