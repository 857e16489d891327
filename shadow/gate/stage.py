"""What the gate keeps of one stage that a run is in: its tests, their change detector and its window.

A run in `canary` is in two stages at once: the shadow stage's rollback process goes on over all pairs, and canary has
its own tests over the pairs that the candidate served. Counts are the run's; a stage reads the slices that are its own.

Pure.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shadow.gate.compiled import CompiledStage, compile_tests
from shadow.gate.measures import Evidence
from shadow.gate.observe import Observation, letters_of, observe
from shadow.gate.rules import groups_of
from shadow.gate.stats import detector
from shadow.gate.stats.engine import HISTOGRAM, Floats, cached_log_factors
from shadow.gate.totals import Totals, evidence_from_totals, own_parts, slices_from_vectors
from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.records.policy import StagePolicy
from shadow.records.tallies import Tally


@dataclass(slots=True)
class StageState:
    """State of one stage.

    Args:
        compiled: Its tests.
        first_tile: Its first tile.
        longest_s: Its longest age, fixed at its start.
        log_r: Log R of the change detector, by rollback test and bet.
        window: (tile, pairs) of the tiles within the policy's window, of the step that the run is in.
    """

    compiled: CompiledStage
    first_tile: int
    longest_s: float
    log_r: Floats
    window: deque[tuple[int, int]] = field(default_factory=deque)
    _evidence: Evidence | None = None
    _seen: list[Observation] | None = None

    @classmethod
    def begin(cls, stage: StagePolicy, first_tile: int, longest_s: float) -> StageState:
        """A stage before its first tile."""
        compiled = compile_tests(stage)
        return cls(compiled, first_tile, longest_s, detector.fresh(len(compiled.detecting)))

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.compiled.stage.name

    @property
    def window_pairs(self) -> int:
        """Pairs within the policy's window."""
        return sum(pairs for _, pairs in self.window)

    def extended(self, extended_s: int) -> float:
        """The stage's longest age with what people added to it, seconds; a stage of a fixed length keeps it."""
        return self.longest_s + (extended_s if self.compiled.stage.for_s is None else 0)

    def tiles_longest_age(self, tile_us: int, extended_s: int = 0) -> int:
        """T: tiles in the same."""
        return math.ceil(self.extended(extended_s) * 1_000_000 / tile_us)

    def forget(self) -> None:
        """The totals changed: what was derived from them is made anew."""
        self._evidence = self._seen = None

    def evidence(self, totals: Totals, others: Mapping[str, Totals], age_s: float) -> Evidence:
        """Evidence of the run's totals as far as it is the stage's, without attempt, freshness and change detector.

        Args:
            others: Totals of the other comparisons that the policy reads.
            age_s: Of the stage.
        """
        if self._evidence is None:
            parts = {name: own_parts(self._evidence_of(each, age_s), each) for name, each in others.items()}
            self._evidence = replace(self._evidence_of(totals, age_s), others=parts)
        return self._evidence

    def _evidence_of(self, totals: Totals, age_s: float) -> Evidence:
        stage = self.compiled.stage
        return evidence_from_totals(
            totals,
            totals.corrections(stage),
            self.window_pairs,
            stage=stage,
            attempt=1,
            age_s=age_s,
            freshness_s=None,
            log_sr=None,
        )

    def seen(self, totals: Totals, others: Mapping[str, Totals], age_s: float) -> list[Observation]:
        """What each rule sees of the evidence."""
        if self._seen is None:
            evidence = self.evidence(totals, others, age_s)
            self._seen = [observe(rule, evidence) for rule in self.compiled.stage.rules]
        return self._seen

    def detect(self, tiles: Mapping[str, Tally], known: list[Observation]) -> None:
        """The change detector takes a tile, scaled by the design effects of the totals before it.

        Args:
            tiles: The merged tile of each comparison that is folded now.
            known: What each rule saw of the totals before it.
        """
        compiled, stage = self.compiled, self.compiled.stage
        parts = {name: Evidence(slices=slices_from_vectors(t.vectors, stage, {})) for name, t in tiles.items()}
        tile = replace(parts.pop(CANDIDATE_PRODUCTION), others=parts)
        new = [letters_of(rule, tile) for rule in stage.rules]
        # R stays 0 until the totals before this tile fill enough hash cells.
        has_tile = (name in tiles for name in compiled.comparisons)
        is_running = np.array(
            [seen.n > 0 and seen.is_spread and has for seen, has in zip(known, has_tile, strict=True)], dtype=bool
        )
        increments = _increments(compiled, known, new)
        self.log_r = detector.step(self.log_r, increments, is_running[compiled.detecting_rule])

    def detected(self, seen: list[Observation]) -> tuple[float | None, dict[str, float]]:
        """The change detector's log sum, of the comparison where it is largest, and each rule's part in it.

        A BROKEN rule has none.
        """
        compiled = self.compiled
        if not compiled.detecting:
            return None, {}
        is_broken = np.array([bool(each.trouble) for each in seen])[compiled.detecting_rule]
        weights = np.where(is_broken, -np.inf, compiled.detecting_weights)
        by_test = detector.log_r_by_test(self.log_r, compiled.detecting_priors)
        by_rule = np.full(len(seen), -np.inf)
        np.logaddexp.at(by_rule, compiled.detecting_rule, by_test + weights)
        parts: dict[str, float] = {}
        for name, part in zip(compiled.ids, by_rule.tolist(), strict=True):
            if math.isfinite(part):
                parts[name] = float(np.logaddexp(parts[name], part)) if name in parts else part
        comparisons = np.array(compiled.comparisons)[compiled.detecting_rule]
        sums = [
            detector.log_sr(by_test[comparisons == group], weights[comparisons == group])
            for group in groups_of(compiled)
        ]
        return max((value for value in sums if value is not None), default=None), parts


def _increments(
    compiled: CompiledStage,
    known: list[Observation],
    new: list[tuple[tuple[int, int, int], tuple[int, ...] | None]],
) -> Floats:
    """Log factors of a tile's letters or histograms, summed over its counts over the design effects so far.

    Shape (D, 29).
    """
    letters = np.array([letters for letters, _ in new], dtype=np.float64).reshape(-1, 3)
    effects = np.array([seen.effect for seen in known])
    counts = (letters / effects[:, None])[compiled.detecting_rule]
    result: Floats = (counts[:, None, :] * compiled.detecting_factors).sum(axis=-1)
    for row, index in enumerate(compiled.detecting):
        test = compiled.tests[index]
        bins = new[test.rule][1]
        if bins is not None:
            factors = cached_log_factors(HISTOGRAM, test.mean, test.side)
            result[row] = (factors * (np.array(bins) / effects[test.rule])).sum(axis=-1)
    return result
