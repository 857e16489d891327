"""Pairs of a tile that are counted by kind, and spread over keys and cells only when the tile is read. Pure.

    pair ──► kind (its slices, the outcome of each grader) ──► one number by cluster cell       each pair
    kind ──► plan (every key that it counts in, and how)                                      each kind, once
    plan × numbers ──► vectors and cells of the tally                           each checkpoint, and at the close

A pair counts in about 25 vectors and 15 cells. Not finding and changing each of them for every pair saved 20 of the
140 µs that a pair took in the comparator. Sums do not depend on their order, so the integers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from shadow.records.grades import FAILED, PASSED
from shadow.records.policy import Latency
from shadow.records.tallies import Key, Tally

DECIDED: Final = frozenset({PASSED, FAILED})
"""Outcomes that count for or against an answer."""
GROUPS_MAX: Final = 4096
"""Kinds of pairs after which a tally is spread at once, so that memory stays bounded whatever is graded."""

PairKind = tuple[Any, ...]
"""Slices; whether the candidate's call failed; whether both sides answered; graders; two outcomes of each."""


@dataclass(slots=True)
class Plan:
    """What every pair of one kind counts.

    Args:
        counts: (key, index in its vector) that go up by one.
        cells: (key, difference): the pair's cell goes up by one pair and by the difference.
        sizes: Keys of kind `missing`, which sum up sizes and times of paired requests.
        draws: (key, lower bin, threshold) of differences between two bins: the pair's draw says which one.
        costs: Keys of kind `cost`.
        bases: Their bases.
        latencies: Rules with their keys.
    """

    counts: list[tuple[Key, int]] = field(default_factory=list)
    cells: list[tuple[Key, int]] = field(default_factory=list)
    sizes: list[Key] = field(default_factory=list)
    draws: list[tuple[Key, int, float]] = field(default_factory=list)
    costs: list[Key] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)
    latencies: list[tuple[Latency, Key]] = field(default_factory=list)

    def count(self, key: Key, index: int, difference: int) -> None:
        """Every pair goes up by one at this index, and its cell by this difference."""
        self.counts.append((key, index))
        self.cells.append((key, difference))

    def rate(self, key: Key, *, is_violation: bool) -> None:
        """Every pair is one of n, and a violation or not."""
        self.count(key, 1, int(is_violation))
        if is_violation:
            self.counts.append((key, 0))


class CostSums:
    """Sums of one basis over the pairs of a kind: by cell, and squares and products over all."""

    __slots__ = ("by_cell", "candidate_squares", "production_squares", "products")

    def __init__(self) -> None:
        self.by_cell: dict[int, list[int]] = {}
        self.candidate_squares = self.production_squares = self.products = 0

    def add(self, cell: int, candidate: int, production: int) -> None:
        """Add one pair."""
        sums = self.by_cell.get(cell)
        if sums is None:
            self.by_cell[cell] = [1, candidate, production]
        else:
            sums[0] += 1
            sums[1] += candidate
            sums[2] += production
        self.candidate_squares += candidate * candidate
        self.production_squares += production * production
        self.products += candidate * production

    def spread(self, tally: Tally, key: Key) -> None:
        """Add the sums to a key of kind `cost`."""
        vector = tally.vector(key)
        for cell, sums in self.by_cell.items():
            values = tally.cell(key, cell)
            for index, value in enumerate(sums):
                values[index] += value
                vector[index] += value
        vector[3] += self.candidate_squares
        vector[4] += self.production_squares
        vector[5] += self.products


class Group:
    """The pairs of one kind.

    Attributes:
        by_cell: Pairs by cluster cell.
        upper: For each draw of the plan, those of them that fell into the upper bin, by cell.
        costs: Sums by basis.
    """

    __slots__ = ("body_bytes", "by_cell", "costs", "plan", "production_us", "upper")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.by_cell: dict[int, int] = {}
        self.body_bytes = self.production_us = 0
        self.upper: list[dict[int, int]] = [{} for _ in plan.draws]
        self.costs = {basis: CostSums() for basis in plan.bases}

    def add(self, cell: int, body_bytes: int, production_us: int) -> None:
        """Add one pair."""
        self.by_cell[cell] = self.by_cell.get(cell, 0) + 1
        self.body_bytes += body_bytes
        self.production_us += production_us

    def spread(self, tally: Tally) -> None:
        """Add everything to a tally."""
        plan, pairs = self.plan, sum(self.by_cell.values())
        for key, index in plan.counts:
            tally.vector(key)[index] += pairs
        for key in plan.sizes:
            vector = tally.vector(key)
            vector[0] += pairs
            vector[1] += self.body_bytes
            vector[2] += self.production_us
        for key, difference in plan.cells:
            _add_cells(tally.cells_of(key), self.by_cell, difference)
        for (key, lower, _), upper in zip(plan.draws, self.upper, strict=True):
            numbers = tally.vector(key)
            risen = sum(upper.values())
            numbers[lower] += pairs - risen
            numbers[lower + 1] += risen
            cells = tally.cells_of(key)
            _add_cells(cells, self.by_cell, lower - 20)
            for cell, count in upper.items():
                cells[cell][1] += count
        for key in plan.costs:
            self.costs[key.name].spread(tally, key)


class PairRows:
    """The pairs of one tile that are not spread yet.

    Attributes:
        groups: Pairs by kind.
        latencies: Pairs by key, then by (candidate slow, production slow), then by cell.
    """

    __slots__ = ("groups", "latencies")

    def __init__(self) -> None:
        self.groups: dict[PairKind, Group] = {}
        self.latencies: dict[Key, dict[tuple[bool, bool], dict[int, int]]] = {}

    def group(self, kind: PairKind, plan_of: Callable[[PairKind], Plan]) -> Group:
        """The pairs of a kind."""
        group = self.groups.get(kind)
        if group is None:
            group = self.groups[kind] = Group(plan_of(kind))
        return group

    def add_latency(self, key: Key, is_candidate_slow: bool, is_production_slow: bool, cell: int) -> None:
        """Add one pair to a latency statistic."""
        by_slow = self.latencies.get(key)
        if by_slow is None:
            by_slow = self.latencies[key] = {(c, p): {} for c in (False, True) for p in (False, True)}
        by_cell = by_slow[is_candidate_slow, is_production_slow]
        by_cell[cell] = by_cell.get(cell, 0) + 1

    def spread(self, tally: Tally) -> None:
        """Add everything to a tally, and keep nothing."""
        groups, self.groups = self.groups, {}
        latencies, self.latencies = self.latencies, {}
        for group in groups.values():
            group.spread(tally)
        for key, by_slow in latencies.items():
            vector, cells = tally.vector(key), tally.cells_of(key)
            for (is_candidate_slow, is_production_slow), by_cell in by_slow.items():
                pairs = sum(by_cell.values())
                vector[0] += pairs * (is_candidate_slow and not is_production_slow)
                vector[1] += pairs * (is_production_slow and not is_candidate_slow)
                vector[2] += pairs
                vector[3] += pairs * is_production_slow
                _add_cells(cells, by_cell, is_candidate_slow - is_production_slow)


def _add_cells(cells: dict[int, list[int]], by_cell: dict[int, int], difference: int) -> None:
    for cell, pairs in by_cell.items():
        values = cells.get(cell)
        if values is None:
            cells[cell] = [pairs, pairs * difference]
        else:
            values[0] += pairs
            values[1] += pairs * difference
