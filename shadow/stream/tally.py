"""Turn one decided request into integers.

Pure: which statistics are kept follows from the policy alone, so two comparators, a replay and the
offline stage count the same. Layouts are those of `shadow.records.tallies`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from shadow.records.answers import ANSWERED, FAILURES
from shadow.records.grades import BROKEN, FAILED, PASSED, Grade
from shadow.records.policy import Cap, Cost, Floor, Latency, NoRewardHacking, Quality, Rule
from shadow.records.slices import ALL
from shadow.records.tallies import CELLS, CLASSES, Key, Tally

BIN = 0.05
"""Width of a bin of the difference of mean grades."""
REFERENCE_ANSWERS = 1000
"""Production's answers of the stage from which a latency reference is taken where none is configured."""

_CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)}


@dataclass(frozen=True, slots=True)
class Side:
    """What is counted of one role's answer."""

    outcome: str
    duration_us: int
    first_byte_us: int
    cost_micro: int
    tokens: int

    def quantity_us(self, quantity: str) -> int:
        return self.first_byte_us if quantity == "first_byte" else self.duration_us


@dataclass(frozen=True, slots=True)
class Counted:
    """A request as it is counted: its slices, its cluster cell, its size and its sampling key's hash."""

    slices: tuple[str, ...]
    cell: int
    request_id: str
    body_bytes: int
    production_us: int


def cell_of(key: str) -> int:
    """Cluster cell of a sampling key, in [0, 128)."""
    return blake2b(key.encode(), digest_size=8, person=b"shadow-cell").digest()[0] % CELLS


def uniform(request_id: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the request alone, for stochastic rounding (statistics.md, pitfall 9)."""
    digest = blake2b(f"{purpose}/{request_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def bin_of(difference: float, draw: float) -> int:
    """Bin in [0, 40] of a difference in [-1, 1], rounded up with the probability of the remainder."""
    position = (difference + 1.0) / BIN
    lower = math.floor(position + 1e-9)
    return min(40, lower + (1 if draw < position - lower - 1e-9 else 0))


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

    def reference_us(self, rule: Latency, production: Side) -> int | None:
        """The reference of a rule, or None while this answer only helps to make one."""
        reference = self.frozen_us.get(rule.statistic)
        if reference is not None or production.outcome != ANSWERED:
            return reference
        sample = self.sample_us.setdefault(rule.statistic, [])
        sample.append(production.quantity_us(rule.quantity))
        if len(sample) >= self.share:
            sample.sort()
            self.frozen_us[rule.statistic] = sample[math.ceil(rule.quantile * len(sample)) - 1]
            del self.sample_us[rule.statistic]
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
        production: Side,
        candidate: Side,
        grades: Mapping[str, Mapping[str, Grade]],
        references: References,
    ) -> None:
        """Count a pair. `grades` are settled: by grader, then role, of the graders that apply on both sides."""
        slices = set(request.slices)
        is_broken = any(by_role["production"].outcome == BROKEN for by_role in grades.values())
        for slice in request.slices:
            tally.vector(Key(slice, "classes", ""))[0] += 1
            present = tally.vector(Key(slice, "missing", ""))
            present[0] += 1
            present[1] += request.body_bytes
            present[2] += request.production_us
            if is_broken:
                tally.vector(Key(slice, "broken", ""))[0] += 1
        self._count_grades(tally, request, candidate, grades, slices)
        self._count_quality(tally, request, grades, slices)
        self._count_costs(tally, request, production, candidate, slices)
        self._count_latencies(tally, request, production, candidate, references, slices)
        self._count_hacks(tally, request, grades, slices)

    def _count_grades(
        self,
        tally: Tally,
        request: Counted,
        candidate: Side,
        grades: Mapping[str, Mapping[str, Grade]],
        slices: set[str],
    ) -> None:
        for name, by_role in grades.items():
            production_outcome = by_role["production"].outcome
            candidate_outcome = by_role["candidate"].outcome
            if production_outcome not in (PASSED, FAILED):
                continue
            index = (0 if candidate_outcome == PASSED else 1) + (0 if production_outcome == PASSED else 2)
            difference = (candidate_outcome == PASSED) - (production_outcome == PASSED)
            for slice in self._graders[name] & slices:
                key = Key(slice, "graders", name)
                tally.vector(key)[index] += 1
                _count_cell(tally, key, request.cell, difference)
                if (slice, name) in self._capped and candidate.outcome not in FAILURES:
                    _count_rate(tally, Key(slice, "rates", name), request.cell, candidate_outcome == FAILED)
                if (slice, name) in self._floored:
                    # A failed call has failed the floor; under a cap it is no violation.
                    _count_rate(tally, Key(slice, "rates", f"floor/{name}"), request.cell, candidate_outcome == FAILED)

    def _count_quality(
        self, tally: Tally, request: Counted, grades: Mapping[str, Mapping[str, Grade]], slices: set[str]
    ) -> None:
        for rule in self._qualities:
            if rule.slice not in slices:
                continue
            difference = _quality_difference(rule.graders, grades)
            if difference is None:
                continue
            key = Key(rule.slice, "numeric", "quality")
            index = bin_of(difference, uniform(request.request_id, "quality"))
            tally.vector(key)[index] += 1
            _count_cell(tally, key, request.cell, index - 20)

    def _count_costs(self, tally: Tally, request: Counted, production: Side, candidate: Side, slices: set[str]) -> None:
        if candidate.outcome != ANSWERED or production.outcome != ANSWERED:
            return
        for slice, basis in self._costs:
            if slice not in slices:
                continue
            c, p = (
                (candidate.tokens, production.tokens)
                if basis == "tokens"
                else (candidate.cost_micro, production.cost_micro)
            )
            key = Key(slice, "cost", basis)
            _add(tally.vector(key), (1, c, p, c * c, p * p, c * p))
            _add(tally.cell(key, request.cell), (1, c, p))

    def _count_latencies(
        self,
        tally: Tally,
        request: Counted,
        production: Side,
        candidate: Side,
        references: References,
        slices: set[str],
    ) -> None:
        for rule in self._latencies:
            if rule.slice not in slices:
                continue
            reference_us = references.reference_us(rule, production)
            if reference_us is None:
                continue
            is_candidate_slow = (
                candidate.outcome != ANSWERED or candidate.quantity_us(rule.quantity) > rule.max_ratio * reference_us
            )
            is_production_slow = production.outcome != ANSWERED or production.quantity_us(rule.quantity) > reference_us
            key = Key(rule.slice, "latency", rule.statistic)
            _add(
                tally.vector(key),
                (
                    int(is_candidate_slow and not is_production_slow),
                    int(is_production_slow and not is_candidate_slow),
                    1,
                    int(is_production_slow),
                ),
            )
            _count_cell(tally, key, request.cell, is_candidate_slow - is_production_slow)

    def _count_hacks(
        self, tally: Tally, request: Counted, grades: Mapping[str, Mapping[str, Grade]], slices: set[str]
    ) -> None:
        for rule in self._hacks:
            hacks = _hacks(rule, grades)
            if rule.slice not in slices or hacks is None:
                continue
            production, candidate = hacks
            key = Key(rule.slice, "reward_hacking", "")
            _add(tally.vector(key), (int(candidate and not production), int(production and not candidate), 1))
            _count_cell(tally, key, request.cell, candidate - production)


def _add(vector: list[int], values: Iterable[int]) -> None:
    for index, value in enumerate(values):
        vector[index] += value


def _count_cell(tally: Tally, key: Key, cell: int, difference: int) -> None:
    values = tally.cell(key, cell)
    values[0] += 1
    values[1] += difference


def _count_rate(tally: Tally, key: Key, cell: int, is_violation: bool) -> None:
    vector = tally.vector(key)
    vector[0] += is_violation
    vector[1] += 1
    _count_cell(tally, key, cell, int(is_violation))


def _quality_difference(weights: Mapping[str, float], grades: Mapping[str, Mapping[str, Grade]]) -> float | None:
    """Weighted mean grade of the candidate minus production's; None where no grader applies."""
    total = difference = 0.0
    for name, weight in weights.items():
        by_role = grades.get(name)
        if by_role is None or by_role["production"].outcome not in (PASSED, FAILED):
            continue
        total += weight
        difference += weight * ((by_role["candidate"].outcome == PASSED) - (by_role["production"].outcome == PASSED))
    return difference / total if total > 0 else None


def _hacks(rule: NoRewardHacking, grades: Mapping[str, Mapping[str, Grade]]) -> tuple[bool, bool] | None:
    """Whether (production, candidate) passed the reward and failed a verifiable grader; None where not both apply."""
    reward = grades.get(rule.reward)
    verifiable = [
        by_role
        for name in rule.verifiable
        if (by_role := grades.get(name)) is not None and by_role["production"].outcome in (PASSED, FAILED)
    ]
    if reward is None or reward["production"].outcome not in (PASSED, FAILED) or not verifiable:
        return None
    production, candidate = (
        reward[role].outcome == PASSED and any(by_role[role].outcome == FAILED for by_role in verifiable)
        for role in ("production", "candidate")
    )
    return production, candidate
