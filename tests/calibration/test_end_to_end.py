"""A stage of twenty promote tests and nineteen rollback tests, end to end: statistics.md 2.15."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shadow.gate.compiled import compile_tests
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.records.decisions import PROMOTE, ROLLBACK
from shadow.records.policy import Cost, Needs, Policy
from shadow.records.tallies import Key, Tally
from tests.calibration.batch import Counted, decide
from tests.calibration.conftest import Note
from tests.calibration.many_slices import EVERY, FOUR_PERCENT, TEN_PERCENT, Many, compiled_stage, simulate
from tests.calibration.section_14 import ALONE, TYPICAL, Fourteen, places_of
from tests.calibration.section_14 import simulate as simulate_14
from tests.calibration.sizes import with_runs
from tests.calibration.tolerance import is_quantile, is_share

SAID = 600
"""Runs behind statistics.md's 2.15."""

ROWS = [
    # name, truth, promoted, rolled back, median pairs of a decision (None: too few decisions for one)
    ("good: math +10", Many(), 0.947, 0.002, 11_400),
    ("good and better: +1 everywhere, math +10, latency x0.95", Many(rest=0.01, latency=0.95), 0.960, 0.002, 9_900),
    ("math does not improve", Many(math=0.0), 0.0, 0.010, None),
    ("math +2, exactly the minimum effect", Many(math=0.02), 0.005, 0.008, None),
    ("5 points drop in a 10 % slice", Many(drops={TEN_PERCENT: -0.05}), 0.002, 0.960, 9_050),
    (
        "10 points drop in a 10 % slice from 8,000 on, math not improved",
        Many(math=0.0, drops={TEN_PERCENT: -0.10}, onset=8_000),
        0.0,
        1.0,
        12_350,
    ),
    ("10 points drop in a 4 % slice", Many(drops={FOUR_PERCENT: -0.10}), 0.0, 0.995, 7_650),
    ("1 point drop everywhere except math (+10)", Many(rest=-0.01), 0.738, 0.003, 13_550),
    ("safety 2x cap", Many(safe=0.01), 0.0, 1.0, 2_950),
    ("safety at the cap", Many(safe=0.005), 0.005, 0.005, None),
    ("format 94 %", Many(tagged=0.94), 0.0, 0.990, 7_575),
    ("cost x1.25", Many(cost=1.25), 0.0, 1.0, 550),
    ("latency x1.6", Many(latency=1.6), 0.0, 1.0, 900),
    ("reward hack +1", Many(hack=0.02), 0.0, 1.0, 3_900),
    ("tool calls -8", Many(tool=0.84), 0.0, 0.895, 10_850),
]
FEW = ("good: math +10", "5 points drop in a 10 % slice", "safety at the cap")
"""Rows of the part that runs in `make test`."""
HARMLESS = ("good: math +10", "good and better: +1 everywhere, math +10, latency x0.95")
"""Rows in which no rule is violated, so that a rollback is false. In all others but one a promotion is."""
NET_GAIN = "1 point drop everywhere except math (+10)"


@pytest.mark.parametrize(("name", "truth", "promoted", "back", "median", "runs"), with_runs(ROWS, FEW, 20, SAID))
def test_end_to_end(
    note: Note, name: str, truth: Many, promoted: float, back: float, median: int | None, runs: int
) -> None:
    """2.15: how often, and after how many pairs, a stage is promoted or rolled back; T = 400 tiles of 50 pairs.

    Tolerance: four standard errors of both, 600 runs there. False promotes and false rollbacks <= 5 %.
    """
    seed = 250
    rng = np.random.default_rng([seed, [row[0] for row in ROWS].index(name), runs])
    compiled, tests = compiled_stage()
    parts = []
    for _ in range(0, runs, 20):
        decided = decide(compiled, tests, simulate(truth, rng, runs=20), tiles_longest_age=400)
        is_promoted, is_back = decided.outcomes()
        at = (np.where(is_promoted, decided.promoted, decided.rolled_back) + 1) * EVERY
        parts.append((is_promoted, is_back, at))
    is_promoted, is_back, at = (np.concatenate(each) for each in zip(*parts, strict=True))
    decisions = at[is_promoted | is_back]
    note(
        f"2.15 {name}: promoted, rolled back, median pairs",
        f"{promoted:.1%} / {back:.1%} / {f'{median:,}' if median else 'few'}",
        f"{is_promoted.mean():.1%} / {is_back.mean():.1%} / {np.median(decisions) if median else len(decisions):,.0f}",
        runs,
        seed,
    )
    for said, hits in ((promoted, int(is_promoted.sum())), (back, int(is_back.sum()))):
        assert is_share(said, hits, runs, SAID)
    assert median is None or is_quantile(median, decisions, round(SAID * max(promoted + back, 0.1)), EVERY)
    if runs == SAID:
        assert name not in HARMLESS or is_back.mean() <= 0.05
        assert name in (*HARMLESS, NET_GAIN) or is_promoted.mean() <= 0.05


def test_many_at_once_is_the_fold() -> None:
    """Over 40 tiles of six runs, the vectorised stage decides where `fold_tile` and `judge_tile` do.

    Each letter is dealt to the hash cells in turn, so that every design effect is 1, as in the table; cost has a
    variance of its own from the cells and is left out.
    """
    stage = replace(
        ALONE,
        needs=Needs(pairs=0, within_s=86_400, slice_pairs=0, coverage=0.5),
        rules=tuple(rule for rule in ALONE.rules if not isinstance(rule, Cost)),
    )
    policy, compiled = Policy((stage,)), compile_tests(stage)
    rng = np.random.default_rng(251)
    two = dict.fromkeys(TYPICAL, 0.02)
    truths = [{**two, "correct": 0.10}, {"pinned": -0.15}, {}]
    for points in truths:
        truth = Fourteen(TYPICAL, 0.25, 0.5, points)
        counted = simulate_14(truth, stage, rng, runs=2, pairs=20_000, every=500)
        tiles_longest_age = RunState.begin("r", policy, 0).tiles_longest_age()
        decided = decide(compiled, compiled.tests, counted, tiles_longest_age=tiles_longest_age)
        is_promoted, is_back = decided.outcomes()
        for run in range(2):
            expected = PROMOTE if is_promoted[run] else ROLLBACK if is_back[run] else "hold"
            first = int(decided.promoted[run] if is_promoted[run] else decided.rolled_back[run])
            assert (expected, first) == folded(counted, run, policy)


def folded(counted: Counted, run: int, policy: Policy) -> tuple[str, int]:
    """Decision of the real fold, and the look at which it fell; -1 if none."""
    state = RunState.begin("r", policy, 0)
    dealt: dict[tuple[int, int], int] = {}
    for look, letters in enumerate(counted.letters[run]):
        fold_tile(state, look, tally_of(letters, policy, dealt), merged_bytes=b"")
        judgement = judge_tile(state)
        if judgement.decision != "hold":
            return judgement.decision, look
    return "hold", -1


def tally_of(letters: np.ndarray, policy: Policy, dealt: dict[tuple[int, int], int]) -> Tally:
    """A tile with these letters of each rule; `dealt` says which cell is next."""
    tally = Tally()
    for rule, (place, counts) in enumerate(zip(places_of(policy.stages[0]), letters.tolist(), strict=True)):
        key, unit, value_of = place
        n = sum(counts)
        if key.kind == "classes" or key in tally.vectors:
            continue
        tally.vectors[key] = value_of(*counts)
        for letter, count in enumerate(counts):
            for _ in range(count):
                cell = tally.cell(key, dealt.get((rule, letter), 0) % 128)
                dealt[rule, letter] = dealt.get((rule, letter), 0) + 1
                cell[0] += 1
                cell[1] += (letter == 2) if key.kind == "rates" else unit * (letter - 1)
        classes = tally.vector(Key(key.slice, "classes", ""))
        classes[0] = max(classes[0], n)
    return tally
