"""How often the gate would roll production back: its own tests on production's second answers (A/A). Pure.

    baseline–production tile ──► block of at least 1,000 pairs ──► alarm, if the tests ever crossed within it

The baseline is production again, so every alarm is a false one, sessions and noise of the real traffic included. The
tests are those of the stage's `no_regression` rules, all strict, in a weighted average as if the policy held nothing
else; every tile is a look, and every block begins at nothing. What the tests promise is at most 0.8 alpha alarms a
block. Nothing is decided with it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Final

from shadow.gate.compiled import CompiledStage, compile_tests
from shadow.gate.observe import observe
from shadow.gate.rules import AVERAGE_SHARE, log_es_of
from shadow.gate.stats.average import log_average
from shadow.gate.totals import evidence_from_tally
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_PRODUCTION
from shadow.records.policy import NoRegression, Policy, StagePolicy, comparison_of
from shadow.records.slices import ALL
from shadow.records.tallies import Key, Tally

BLOCK_PAIRS: Final = 1000


def noise_stage(policy: Policy, stage: str) -> CompiledStage | None:
    """The tests of A/A pairs; None where nobody is asked twice, or no `no_regression` is against production."""
    found = next((each for each in policy.stages if each.name == stage), None)
    if found is None or BASELINE_PRODUCTION not in policy.comparisons:
        return None
    rules = tuple(
        replace(rule, strict=True)
        for rule in found.rules
        if isinstance(rule, NoRegression) and comparison_of(rule) == CANDIDATE_PRODUCTION
    )
    return compile_tests(replace(found, rules=rules)) if rules else None


@dataclass(slots=True)
class Noise:
    """Alarms among A/A pairs so far. `fold` changes it in place.

    Args:
        blocks: Closed blocks in which a rule had evidence.
        alarms: Those of them in which the tests crossed their threshold at some look.
        pairs: Pairs of the open block; `tally` its counts.
        has_crossed, has_evidence: Of the open block.
    """

    blocks: int = 0
    alarms: int = 0
    pairs: int = 0
    has_crossed: bool = False
    has_evidence: bool = False
    tally: Tally = field(default_factory=Tally)

    def fold(self, compiled: CompiledStage, tile: Tally) -> None:
        """Take the next tile of the comparison of baseline and production, which is left as it is."""
        wanted = {
            Key(rule.slice, "graders", rule.grader) for rule in compiled.stage.rules if isinstance(rule, NoRegression)
        }
        part = Tally(
            {key: list(vector) for key, vector in tile.vectors.items() if key in wanted},
            {key: cells for key, cells in tile.cells.items() if key in wanted},
        )
        self.pairs += tile.vectors.get(Key(ALL, "classes", ""), [0])[0]
        if part.vectors:
            self.tally.add(part)
            self._look(compiled)
        if self.pairs >= BLOCK_PAIRS:
            self.blocks += self.has_evidence
            self.alarms += self.has_evidence and self.has_crossed
            self.pairs, self.has_crossed, self.has_evidence, self.tally = 0, False, False, Tally()

    def _look(self, compiled: CompiledStage) -> None:
        evidence = evidence_from_tally(
            self.tally, 0, stage=compiled.stage, attempt=1, age_s=0.0, freshness_s=None, log_sr=None
        )
        seen = [observe(rule, evidence) for rule in compiled.stage.rules]
        self.has_evidence = self.has_evidence or any(each.n and each.is_spread for each in seen)
        tests = [
            (log_e, test.weight)
            for test, log_e in zip(compiled.tests, log_es_of(compiled, seen), strict=True)
            if not test.is_promote
        ]
        log_e = log_average([log_e for log_e, _ in tests], [weight for _, weight in tests])
        self.has_crossed = self.has_crossed or log_e >= math.log(1 / budget(compiled.stage))

    def to_bytes(self) -> bytes:
        """One line of JSON, then one of the open block's counts."""
        head = [self.blocks, self.alarms, self.pairs, self.has_crossed, self.has_evidence]
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + self.tally.to_bytes()


def budget(stage: StagePolicy) -> float:
    """Share of blocks that may alarm: the part of alpha that the weighted average spends."""
    return AVERAGE_SHARE * stage.alpha


def noise_from_bytes(value: bytes | None) -> Noise:
    """Read what `to_bytes` wrote; nothing counted where there is nothing, or another layout."""
    head, _, tally = (value or b"").partition(b"\n")
    try:
        blocks, alarms, pairs, has_crossed, has_evidence = json.loads(head)
        counts = int(blocks), int(alarms), int(pairs)
        return Noise(*counts, bool(has_crossed), bool(has_evidence), Tally.from_bytes(tally))
    except (ValueError, TypeError):
        return Noise()
