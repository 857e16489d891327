"""Totals of a stage, kept so that one more tile is cheap, and the evidence that they are.

Vectors stay Python integers; the cluster cells of all keys lie in one array of shape (R, 128, 2), from which
all design effects come in one go. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import add, itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shadow.gate.measures import (
    AgreementCounts,
    Evidence,
    HackCounts,
    LatencyCounts,
    MissingShare,
    PairCounts,
    RateCounts,
    RatioSums,
    SliceEvidence,
)
from shadow.gate.stats.cluster import cluster_variances, design_effects, session_sizes
from shadow.gate.stats.engine import HISTOGRAM
from shadow.records.policy import Cap, Cost, Floor, StagePolicy
from shadow.records.slices import SHADOW, stage_of
from shadow.records.tallies import CELLS, CLASSES, WIDTH_BY_KIND, Key, Tally

BIN: Final = 0.05
"""Unit of the sums of `numeric` cells."""

UNCLUSTERED: Final = ("classes", "missing", "broken")
"""Kinds that no rule tests, so they have no cells."""

_VALUES: Final = np.array(HISTOGRAM)
_ALL_CELLS: Final = itemgetter(*range(CELLS))


class Totals:
    """Counts of all tiles folded so far."""

    def __init__(self) -> None:
        self.vectors: dict[Key, list[int]] = {}
        self._rows: dict[Key, int] = {}
        self._cells: NDArray[np.int64] = np.zeros((64, CELLS, 2), dtype=np.int64)
        # Sums of money may pass 64 bits, so cost keeps Python integers.
        self._cost_cells: dict[Key, list[list[int]]] = {}

    @classmethod
    def from_tally(cls, tally: Tally) -> Totals:
        """Totals that hold one tally."""
        totals = cls()
        totals.add(tally)
        return totals

    def add(self, tally: Tally) -> None:
        """Add a tile's tally, which is left as it is."""
        for key, vector in tally.vectors.items():
            mine = self.vectors.get(key)
            self.vectors[key] = list(vector) if mine is None else list(map(add, mine, vector))
        whole: dict[int, tuple[list[int], ...]] = {}
        places: list[list[int]] = []
        values: list[list[int]] = []
        for key, cells in tally.cells.items():
            if key.kind == "cost":
                self._add_costs(key, cells)
                continue
            row = self._row(key)
            if len(cells) == CELLS:
                whole[row] = _ALL_CELLS(cells)
            else:
                places.append([row * CELLS + cell for cell in cells])
                values.extend(cells.values())
        if whole:
            self._cells[list(whole)] += _integers(chain.from_iterable(whole.values()), CELLS * len(whole)).reshape(
                -1, CELLS, 2
            )
        if values:
            index = np.fromiter(chain.from_iterable(places), dtype=np.int64, count=len(values))
            self._cells.reshape(-1, 2)[index] += _integers(values, len(values))  # every place occurs once

    def _row(self, key: Key) -> int:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            if row == len(self._cells):
                self._cells = np.concatenate([self._cells, np.zeros_like(self._cells)])
        return row

    def _add_costs(self, key: Key, cells: Mapping[int, list[int]]) -> None:
        mine = self._cost_cells.get(key)
        if mine is None:
            mine = self._cost_cells[key] = [[0, 0, 0] for _ in range(CELLS)]
        for cell, (n, c, p) in cells.items():
            kept = mine[cell]
            kept[0] += n
            kept[1] += c
            kept[2] += p

    def to_tally(self) -> Tally:
        """The same counts as a tally."""
        tally = Tally({key: list(vector) for key, vector in self.vectors.items()})
        for key, row in self._rows.items():
            cells = self._cells[row]
            tally.cells[key] = {int(cell): cells[cell].tolist() for cell in np.flatnonzero(cells.any(axis=1))}
        for key, by_cell in self._cost_cells.items():
            tally.cells[key] = {cell: list(values) for cell, values in enumerate(by_cell) if any(values)}
        return tally

    def corrections(self, stage: StagePolicy) -> Corrections:
        """Cluster corrections of all keys of a stage at once."""
        keys = [key for key in self._rows if is_counted_by(stage, key.slice)]
        cells = self._cells[[self._rows[key] for key in keys]]
        counts = cells[:, :, 0].astype(np.float64)
        units = np.array([BIN if key.kind == "numeric" else 1.0 for key in keys])
        sums = cells[:, :, 1] * units[:, None] if keys else counts
        moments = np.array([_moments(key.kind, self.vectors[key]) for key in keys]).reshape(-1, 2)
        effects = design_effects(counts, sums, moments[:, 0], moments[:, 1]).tolist()
        sizes = session_sizes(counts).tolist()
        filled = (counts > 0).sum(axis=-1).tolist()
        result = Corrections(
            dict(zip(keys, effects, strict=True)),
            dict(zip(keys, sizes, strict=True)),
            dict(zip(keys, filled, strict=True)),
        )
        ratios = _ratios(stage)
        for key, by_cell in self._cost_cells.items():
            if not is_counted_by(stage, key.slice):
                continue
            values = np.array(by_cell, dtype=np.float64)
            result.cells[key] = int(np.count_nonzero(values[:, 0]))
            # Where several ratios are tested on one basis, the largest variance is the careful one.
            result.cost_v[key] = max(
                self._cost_variance(key, values, rho) for rho in ratios.get((key.slice, key.name), (1.0,))
            )
        return result

    def _cost_variance(self, key: Key, values: NDArray[np.float64], rho: float) -> float:
        n, sum_c, sum_p = self.vectors[key][:3]
        mean = np.array([(sum_c - rho * sum_p) / n if n else 0.0])
        return float(cluster_variances(values[None, :, 0], (values[:, 1] - rho * values[:, 2])[None], mean)[0])


def _integers(pairs: Iterable[list[int]], count: int) -> NDArray[np.int64]:
    """Pairs of integers as an array. Shape (count, 2)."""
    return np.fromiter(chain.from_iterable(pairs), dtype=np.int64, count=2 * count).reshape(-1, 2)


def is_counted_by(stage: StagePolicy, slice: str) -> bool:
    """Whether a slice holds the pairs that a stage judges: in canary and watch those that the candidate served."""
    return stage_of(slice) == (stage.name if stage.steps else SHADOW)


def _ratios(stage: StagePolicy) -> dict[tuple[str, str], list[float]]:
    """Ratios that a stage's cost rules test, by slice and basis."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for rule in stage.rules:
        if isinstance(rule, Cost):
            ratios.setdefault((rule.slice, rule.basis), []).append(rule.max_ratio)
    return ratios


@dataclass(frozen=True, slots=True)
class Corrections:
    """What the cluster cells say, by key.

    Args:
        effects: Design effects, >= 1.
        sizes: Session sizes K, >= 1.
        cells: Non-empty cells.
        cost_v: Cluster variances of the sums of c - rho p.
    """

    effects: dict[Key, float]
    sizes: dict[Key, float]
    cells: dict[Key, int]
    cost_v: dict[Key, float] = field(default_factory=dict)


def _moments(kind: str, vector: list[int]) -> tuple[float, float]:
    """Means of D and of D squared."""
    if kind == "numeric":
        n = sum(vector)
        bins = np.array(vector, dtype=np.float64)
        return (float(bins @ _VALUES) / n, float(bins @ _VALUES**2) / n) if n else (0.0, 0.0)
    if kind == "rates":
        violations, n = vector
        return (violations / n, violations / n) if n else (0.0, 0.0)
    if kind == "graders":
        _, minus, plus, _ = vector
        n = sum(vector)
    else:
        plus, minus, n = vector[:3]
    return ((plus - minus) / n, (plus + minus) / n) if n else (0.0, 0.0)


def evidence_from_tally(
    tally: Tally,
    window_pairs: int,
    *,
    stage: StagePolicy,
    attempt: int,
    age_s: float,
    freshness_s: float | None,
    log_sr: float | None,
) -> Evidence:
    """Evidence of a stage's totals, design effects and cells included.

    Args:
        tally: Sum of all closed tiles of the stage.
        window_pairs: Pairs of slice `all` within the policy's window.
        stage: Its rules say at which ratio a cost's variance is taken.
        attempt, age_s, freshness_s, log_sr: As in `Evidence`.
    """
    totals = Totals.from_tally(tally)
    return evidence_from_totals(
        totals,
        totals.corrections(stage),
        window_pairs,
        stage=stage,
        attempt=attempt,
        age_s=age_s,
        freshness_s=freshness_s,
        log_sr=log_sr,
    )


def evidence_from_totals(
    totals: Totals,
    corrections: Corrections,
    window_pairs: int,
    *,
    stage: StagePolicy,
    attempt: int,
    age_s: float,
    freshness_s: float | None,
    log_sr: float | None,
) -> Evidence:
    """As `evidence_from_tally`, for totals whose corrections are already known."""
    effects: dict[str, dict[str, float]] = {}
    cells: dict[str, dict[str, int]] = {}
    for key, filled in corrections.cells.items():
        name = _name(key)
        cells.setdefault(key.slice, {})[name] = filled
        if key.kind != "cost":
            effects.setdefault(key.slice, {})[name] = corrections.effects[key]
    for key in totals.vectors:
        if key.kind not in UNCLUSTERED and key not in corrections.cells and is_counted_by(stage, key.slice):
            cells.setdefault(key.slice, {})[_name(key)] = 0
    for rule in stage.rules:
        if isinstance(rule, Floor):
            # The cells of a grader hold the differences of the pair. A floor counts the candidate's failures
            # alone, and cannot be more clustered than its sessions are large.
            key = Key(rule.slice, "graders", rule.grader)
            if key in corrections.effects:
                effect = max(corrections.effects[key], corrections.sizes[key])
                effects[rule.slice][f"floor/{rule.grader}"] = effect
    return Evidence(
        attempt=attempt,
        age_s=age_s,
        freshness_s=freshness_s,
        window_pairs=window_pairs,
        log_sr=log_sr,
        slices=slices_from_vectors(totals.vectors, stage, corrections.cost_v),
        design_effect=effects,
        cells=cells,
    )


def _name(key: Key) -> str:
    """Name of a key in `design_effect` and `cells`."""
    if key.kind == "graders" or key == (key.slice, "numeric", "quality"):
        return key.name
    if key.kind == "agreement":
        return key.kind
    return "no_reward_hacking" if key.kind == "reward_hacking" else f"{key.kind}/{key.name}"


def slices_from_vectors(
    vectors: Mapping[Key, list[int]], stage: StagePolicy, cost_v: Mapping[Key, float]
) -> dict[str, SliceEvidence]:
    """Evidence by slice from a tally's vectors."""
    by_slice: dict[str, list[tuple[Key, list[int]]]] = {}
    for key, vector in vectors.items():
        if not is_counted_by(stage, key.slice):
            continue
        by_slice.setdefault(key.slice, []).append((key, vector))
    both = {(rule.slice, rule.grader) for rule in stage.rules if isinstance(rule, Cap)} & {
        (rule.slice, rule.grader) for rule in stage.rules if isinstance(rule, Floor)
    }
    return {
        slice: _slice(parts, [grader for name, grader in both if name == slice], cost_v)
        for slice, parts in by_slice.items()
    }


def _slice(
    parts: list[tuple[Key, list[int]]], floors_beside_caps: list[str], cost_v: Mapping[Key, float]
) -> SliceEvidence:
    classes, missing, broken = [0] * WIDTH_BY_KIND["classes"], [0] * WIDTH_BY_KIND["missing"], 0
    graders: dict[str, PairCounts] = {}
    rates: dict[str, RateCounts] = {}
    numeric: dict[str, tuple[int, ...]] = {}
    cost: dict[str, RatioSums] = {}
    latency: dict[str, LatencyCounts] = {}
    hacks: HackCounts | None = None
    agreement: AgreementCounts | None = None
    for key, vector in parts:
        match key.kind:
            case "classes":
                classes = vector
            case "missing":
                missing = vector
            case "broken":
                broken = vector[0]
            case "graders":
                graders[key.name] = PairCounts(*vector)
            case "rates":
                rates[key.name] = RateCounts(*vector)
            case "numeric":
                numeric[key.name] = tuple(vector)
            case "cost":
                n, c, p, cc, pp, cp = vector
                cost[key.name] = RatioSums(n, c, p, cc, pp, cp, cost_v.get(key))
            case "latency":
                quantity, quantile, ratio = key.name.split(":")
                latency[key.name] = LatencyCounts(
                    quantity, float(quantile), float(ratio), vector[0], vector[1], vector[2], None, vector[3]
                )
            case "reward_hacking":
                hacks = HackCounts(*vector)
            case "agreement":
                agreement = AgreementCounts(*vector)
            case _:
                raise ValueError(f"a tally holds {key.kind!r}, which is no kind of statistic")
    for grader in floors_beside_caps:
        if grader in graders and f"floor/{grader}" not in rates:
            four = graders[grader]
            rates[f"floor/{grader}"] = RateCounts(four.production_only + four.neither, four.n)
    paired, candidate_missing, production_missing, absent, _, unreadable = classes
    present = paired + candidate_missing + production_missing + absent + unreadable
    return SliceEvidence(
        pairs=paired,
        coverage=(paired - broken) / present if present else None,
        missing=_missing(missing),
        graders=graders,
        rates=rates,
        numeric=numeric,
        cost=cost,
        latency=latency,
        agreement=agreement,
        reward_hacking=hacks,
    )


def own_parts(evidence: Evidence, totals: Totals) -> Evidence:
    """What a comparison other than the main one has of its own; the rest is the stage's."""
    slices = {name: replace(part, asked=_asked(totals.vectors, name)) for name, part in evidence.slices.items()}
    return Evidence(slices=slices, design_effect=evidence.design_effect, cells=evidence.cells)


def _asked(vectors: Mapping[Key, list[int]], slice: str) -> int:
    """Requests of a slice of which every role was asked: all classes but `sampled_out`."""
    classes = vectors.get(Key(slice, "classes", ""), [])
    return sum(classes) - (classes[CLASSES.index("sampled_out")] if classes else 0)


def _missing(vector: list[int]) -> MissingShare:
    paired, paired_bytes, paired_us, absent, absent_bytes, absent_us = vector
    share = absent / (paired + absent) if paired + absent else 0.0
    return MissingShare(
        share=share,
        size_ratio=absent_bytes * paired / (paired_bytes * absent) if paired_bytes and absent else None,
        latency_ratio=absent_us * paired / (paired_us * absent) if paired_us and absent else None,
    )
