"""Turn one decided request into integers.

Pure: which statistics are kept follows from the policy alone, so two comparators, a replay and the
offline stage count the same. Layouts are those of `shadow.records.tallies`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol

from shadow.records.answers import ANSWERED, FAILURES
from shadow.records.comparisons import CANDIDATE, PRODUCTION
from shadow.records.grades import BROKEN, FAILED, PASSED, Grade
from shadow.records.made import maker
from shadow.records.policy import Cap, Cost, Floor, Latency, NoRewardHacking, Quality, Rule
from shadow.records.rows import DECIDED, GROUPS_MAX, PairKind, PairRows, Plan
from shadow.records.slices import ALL
from shadow.records.tallies import CLASSES, Key, Tally

BIN: Final = 0.05
"""Width of a bin of the difference of mean grades."""
REFERENCE_ANSWERS: Final = 1000
"""Production's answers of the stage from which a latency reference is taken where none is configured."""

SIDES: Final = (PRODUCTION, CANDIDATE)
"""The roles under which settled grades stand."""
TOP_BIN: Final = 40
ZERO_BIN: Final = 20
PLANS_MAX: Final = 10_000
"""Kinds of pairs whose plans are kept; there are few kinds where answers are much alike, and many never come back."""

Outcomes = Mapping[str, tuple[str, str]]
"""Outcomes on (production's, the candidate's) answer by grader."""

_CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)}


@dataclass(frozen=True, slots=True)
class Side:
    """What is counted of one role's answer."""

    outcome: str
    duration_us: int
    first_byte_us: int
    cost_micro: int
    tokens: int


class Measured(Protocol):
    """What has the attributes of a Side: an answer as graders see it."""

    @property
    def outcome(self) -> str: ...
    @property
    def duration_us(self) -> int: ...
    @property
    def first_byte_us(self) -> int: ...
    @property
    def cost_micro(self) -> int: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Counted:
    """A request as it is counted: its slices, its cluster cell, its size and its sampling key's hash."""

    slices: tuple[str, ...]
    cell: int
    request_id: str
    body_bytes: int
    production_us: int


make_counted: Final = maker(Counted)


def uniform(request_id: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the request alone, for stochastic rounding (statistics.md, pitfall 9)."""
    digest = blake2b(f"{purpose}/{request_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def bin_of(difference: float) -> tuple[int, float]:
    """Lower bin in [0, 40] of a difference in [-1, 1], and below which draw in [0, 1) it is the next one."""
    position = (difference + 1.0) / BIN
    lower = math.floor(position + 1e-9)
    return lower, position - lower - 1e-9


@dataclass(slots=True)
class References:
    """Frozen latency references of one partition, and the answers from which the missing ones will be taken.

    A stage without a configured reference takes it from the first answers of each partition, an equal
    share of 1,000, and leaves these out of the rule (statistics.md, 7b).

    Args:
        share: Production answers of this partition that make a reference.
        frozen_us: Reference by statistic.
        sample_us: Durations gathered so far by statistic.
    """

    share: int
    frozen_us: dict[str, int]
    sample_us: dict[str, list[int]]

    def reference_us(self, rule: Latency, statistic: str, production: Measured) -> int | None:
        """The reference of a rule, or None while this answer only helps to make one.

        Args:
            statistic: The rule's own, which takes 1 µs to put together.
        """
        reference = self.frozen_us.get(statistic)
        if reference is not None or production.outcome != ANSWERED:
            return reference
        sample = self.sample_us.setdefault(statistic, [])
        sample.append(_quantity_us(production, rule))
        if len(sample) >= self.share:
            sample.sort()
            self.frozen_us[statistic] = sample[math.ceil(rule.quantile * len(sample)) - 1]
            del self.sample_us[statistic]
        return None


class Tallier:
    """Counts what the rules of a policy need.

    Args:
        rules: The rules of all stages that count on this comparison.
        grader_slices: Slices to which each grader applies, by grader; empty means everywhere.
    """

    def __init__(self, rules: Sequence[Rule], grader_slices: Mapping[str, tuple[str, ...]]) -> None:
        self._graders: dict[str, set[str]] = {name: {ALL, *slices} for name, slices in grader_slices.items()}
        for rule in rules:
            grader = getattr(rule, "grader", None)
            if grader is not None:
                self._graders.setdefault(grader, {ALL}).add(rule.slice)
        self._capped = {(rule.slice, rule.grader) for rule in rules if isinstance(rule, Cap)}
        self._floored = {(rule.slice, rule.grader) for rule in rules if isinstance(rule, Floor)}
        self._qualities = [rule for rule in rules if isinstance(rule, Quality)]
        self._costs = list(dict.fromkeys((rule.slice, rule.basis) for rule in rules if isinstance(rule, Cost)))
        latencies = {(rule.slice, rule.statistic): rule for rule in rules if isinstance(rule, Latency)}
        self._latencies = list(latencies.values())
        self._hacks = [rule for rule in rules if isinstance(rule, NoRewardHacking)]
        self._plans: dict[PairKind, Plan] = {}

    def references(self, share: int) -> References:
        """Latency references at the start of a stage; `share` as in `References`."""
        frozen = {rule.statistic: rule.reference_us for rule in self._latencies if rule.reference_us is not None}
        return References(share, frozen, {})

    def count_class(self, tally: Tally, request: Counted, name: str) -> None:
        """Count a request that is not a pair, in every slice where it counts."""
        for slice in request.slices or (ALL,):
            tally.vector(Key(slice, "classes", ""))[_CLASS_INDEX[name]] += 1
            if name != "sampled_out":
                missing = tally.vector(Key(slice, "missing", ""))
                missing[3] += 1
                missing[4] += request.body_bytes
                missing[5] += request.production_us

    def count_pair(
        self,
        tally: Tally,
        request: Counted,
        production: Measured,
        candidate: Measured,
        grades: Mapping[str, Mapping[str, Grade]],
        references: References,
    ) -> None:
        """Count a pair. `grades` are settled: by grader, then role, of the graders that apply on both sides."""
        rows = tally.rows
        if rows is None:
            rows = tally.rows = PairRows()
        assert isinstance(rows, PairRows), "a comparison has one tallier"
        kind = (
            request.slices,
            candidate.outcome in FAILURES,
            candidate.outcome == ANSWERED and production.outcome == ANSWERED,
            *grades,
            *[by_role[role].outcome for by_role in grades.values() for role in SIDES],
        )
        group = rows.group(kind, self._plan_of)
        plan, cell = group.plan, request.cell
        group.add(cell, request.body_bytes, request.production_us)
        if plan.draws:
            draw = uniform(request.request_id, "quality")
            for upper, (_, _, threshold) in zip(group.upper, plan.draws, strict=True):
                if draw < threshold:
                    upper[cell] = upper.get(cell, 0) + 1
        for basis in plan.bases:
            if basis == "tokens":
                group.costs[basis].add(cell, candidate.tokens, production.tokens)
            else:
                group.costs[basis].add(cell, candidate.cost_micro, production.cost_micro)
        for rule, key in plan.latencies:
            reference_us = references.reference_us(rule, key.name, production)
            if reference_us is None:
                continue
            is_candidate_slow = (
                candidate.outcome != ANSWERED or _quantity_us(candidate, rule) > rule.max_ratio * reference_us
            )
            is_production_slow = production.outcome != ANSWERED or _quantity_us(production, rule) > reference_us
            rows.add_latency(key, is_candidate_slow, is_production_slow, cell)
        if len(rows.groups) > GROUPS_MAX:
            rows.spread(tally)

    def _plan_of(self, kind: PairKind) -> Plan:
        """What pairs of a kind count, worked out once."""
        plan = self._plans.get(kind)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[kind] = self._new_plan(kind)
        return plan

    def _new_plan(self, kind: PairKind) -> Plan:
        slices, is_failure, are_answered, *rest = kind
        graders = len(rest) // 3
        pairs = zip(rest[graders::2], rest[graders + 1 :: 2], strict=True)
        outcomes = dict(zip(rest[:graders], pairs, strict=True))
        plan = Plan()
        plan.sizes += (Key(slice, "missing", "") for slice in slices)
        plan.counts += ((Key(slice, "classes", ""), 0) for slice in slices)
        if any(production == BROKEN for production, _ in outcomes.values()):
            plan.counts += ((Key(slice, "broken", ""), 0) for slice in slices)
        self._plan_grades(plan, outcomes, set(slices), is_failure=is_failure)
        self._plan_quality(plan, outcomes, slices)
        self._plan_hacks(plan, outcomes, slices)
        if are_answered:
            plan.costs += (Key(slice, "cost", basis) for slice, basis in self._costs if slice in slices)
            plan.bases += sorted({key.name for key in plan.costs})
        for rule in self._latencies:
            if rule.slice in slices:
                plan.latencies.append((rule, Key(rule.slice, "latency", rule.statistic)))
        return plan

    def _plan_grades(self, plan: Plan, outcomes: Outcomes, slices: set[str], *, is_failure: bool) -> None:
        for name, (production, candidate) in outcomes.items():
            if production not in DECIDED:
                continue
            index = (0 if candidate == PASSED else 1) + (0 if production == PASSED else 2)
            difference = (candidate == PASSED) - (production == PASSED)
            is_violation = candidate == FAILED
            for slice in self._graders[name] & slices:
                plan.count(Key(slice, "graders", name), index, difference)
                if (slice, name) in self._capped and not is_failure:
                    plan.rate(Key(slice, "rates", name), is_violation=is_violation)
                if (slice, name) in self._floored:
                    # A failed call has failed the floor; under a cap it is no violation.
                    plan.rate(Key(slice, "rates", f"floor/{name}"), is_violation=is_violation)

    def _plan_quality(self, plan: Plan, outcomes: Outcomes, slices: Sequence[str]) -> None:
        for rule in self._qualities:
            difference = _quality_difference(rule.graders, outcomes) if rule.slice in slices else None
            if difference is None:
                continue
            key = Key(rule.slice, "numeric", "quality")
            lower, threshold = bin_of(difference)
            if threshold <= 0.0 or lower >= TOP_BIN:
                plan.count(key, min(TOP_BIN, lower), min(TOP_BIN, lower) - ZERO_BIN)
            else:
                plan.draws.append((key, lower, threshold))

    def _plan_hacks(self, plan: Plan, outcomes: Outcomes, slices: Sequence[str]) -> None:
        for rule in self._hacks:
            hacks = _hacks(rule, outcomes)
            if rule.slice not in slices or hacks is None:
                continue
            production, candidate = hacks
            key = Key(rule.slice, "reward_hacking", "")
            plan.count(key, 2, candidate - production)
            if candidate != production:
                plan.counts.append((key, 0 if candidate else 1))


def _quantity_us(side: Measured, rule: Latency) -> int:
    return side.first_byte_us if rule.quantity == "first_byte" else side.duration_us


def _quality_difference(weights: Mapping[str, float], outcomes: Outcomes) -> float | None:
    """Weighted mean grade of the candidate minus production's; None where no grader applies."""
    total = difference = 0.0
    for name, weight in weights.items():
        production, candidate = outcomes.get(name, (None, None))
        if production not in DECIDED:
            continue
        total += weight
        difference += weight * ((candidate == PASSED) - (production == PASSED))
    return difference / total if total > 0 else None


def _hacks(rule: NoRewardHacking, outcomes: Outcomes) -> tuple[bool, bool] | None:
    """Whether (production, candidate) passed the reward and failed a verifiable grader; None where not both apply."""
    reward = outcomes.get(rule.reward)
    verifiable = [pair for name in rule.verifiable if (pair := outcomes.get(name)) is not None and pair[0] in DECIDED]
    if reward is None or reward[0] not in DECIDED or not verifiable:
        return None
    production, candidate = (
        reward[side] == PASSED and any(pair[side] == FAILED for pair in verifiable) for side in (0, 1)
    )
    return production, candidate
