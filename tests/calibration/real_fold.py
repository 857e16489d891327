"""A run through the gate's own fold, tile by tile, until it decides."""

from __future__ import annotations

from shadow.gate.judgement import Judgement
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.records.decisions import HOLD
from shadow.records.policy import Policy
from tests.calibration.simulate import Truth, tiles
from tests.gate.policies import POLICY


def decided(seed: int, truth: Truth, *, pairs: int, per_tile: int, policy: Policy = POLICY) -> tuple[int, Judgement]:
    """Pairs after which the gate decided (or saw all), and what it said."""
    state = RunState.begin(f"seed-{seed}", policy, 0)
    for number, tally in enumerate(tiles(seed, truth, pairs=pairs, per_tile=per_tile)):
        # The chain of digests is not under test here; writing every tile would take most of the time.
        fold_tile(state, number, tally, merged_bytes=b"")
        judgement = judge_tile(state)
        if judgement.decision != HOLD:
            break
    return (state.folded + 1) * per_tile, judgement
