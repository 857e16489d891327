"""How long the gate takes to fold and judge one tile of 64 slices with 20 rules each.

    python -m benchmarks.bench_gate [--tiles 40] [--canary]

Folding and judging without confidence bounds, the digest's bytes given. The peer is the same engine asked one test at
a time, as a gate without arrays would. `--canary` has the shadow stage's rollback process go on beside canary's own
tests.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np

from shadow import heap
from shadow.gate.rules import effective_letters
from shadow.gate.run import RunState, advance, decide, fold_tile, judge_tile
from shadow.gate.stats.engine import PAIR, RATE, log_e
from shadow.records.decisions import HOLD, PROMOTE
from shadow.records.policy import (
    Cap,
    Equivalent,
    Floor,
    Improve,
    Needs,
    NoRegression,
    Policy,
    Rule,
    StagePolicy,
)
from shadow.records.slices import in_stage
from shadow.records.tallies import CELLS, Key, Tally

SLICES = ("all", *(f"slice-{number:02d}" for number in range(63)))
GRADERS = tuple(f"grader-{number}" for number in range(8))
PAIRS = 256


def rules_of(slice: str) -> tuple[Rule, ...]:
    """Twenty rules on one slice."""
    return (
        *(NoRegression(grader, slice, 0.05, strict=True) for grader in GRADERS),
        *(Equivalent(grader, slice, 0.1) for grader in GRADERS[:6]),
        *(Floor(grader, 0.5, slice) for grader in GRADERS[:3]),
        *(Cap(grader, 0.4, 0.01, slice) for grader in GRADERS[3:5]),
        Improve(GRADERS[7], slice, 0.02),
    )


def policy_of(*, has_canary: bool) -> Policy:
    """The stages."""
    shadow = StagePolicy("shadow", Needs(10**9, slice_pairs=0), tuple(r for s in SLICES for r in rules_of(s)))
    live = tuple(r for s in SLICES for r in rules_of(in_stage("canary", s)))
    canary = StagePolicy("canary", Needs(10**9, slice_pairs=0), live, steps=(0.5,))
    return Policy((shadow, canary) if has_canary else (shadow,), tile_us=60_000_000)


def tile_of(draw: np.random.Generator, policy: Policy) -> Tally:
    """A tile with pairs in every slice and cell."""
    tally = Tally()
    places = [rule.slice for stage in policy.stages for rule in stage.rules]
    for slice in dict.fromkeys(places):
        tally.vector(Key(slice, "classes", ""))[0] = PAIRS
        tally.vectors[Key(slice, "missing", "")] = [PAIRS, 500 * PAIRS, 800_000 * PAIRS, 0, 0, 0]
        for index, grader in enumerate(GRADERS):
            losses, wins, neither = draw.integers(4, 8, size=3).tolist()
            tally.vectors[Key(slice, "graders", grader)] = [PAIRS - losses - wins - neither, losses, wins, neither]
            cells = {cell: [PAIRS // CELLS, 0] for cell in range(CELLS)}
            places_of = draw.permutation(CELLS)[: losses + wins].tolist()
            for cell, difference in zip(places_of, [-1] * losses + [1] * wins, strict=True):
                cells[cell][1] += difference
            tally.cells[Key(slice, "graders", grader)] = cells
            if 3 <= index < 5:
                tally.vectors[Key(slice, "rates", grader)] = [losses, PAIRS]
                tally.cells[Key(slice, "rates", grader)] = {c: [2, int(c < losses)] for c in range(CELLS)}
    return tally


def one_by_one(state: RunState) -> float:
    """Seconds for the e-values of all tests, asked for one at a time."""
    compiled, letters = state.compiled, effective_letters(state.seen).tolist()
    began_s = time.perf_counter()
    for test in compiled.tests:
        log_e(letters[test.rule], RATE if test.over == "rate" else PAIR, test.mean, test.side, test.kappa0)
    return time.perf_counter() - began_s


def main() -> None:
    """Run, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=40)
    parser.add_argument("--canary", action="store_true")
    options = parser.parse_args()
    heap.settle()  # as the gate's process does
    draw, policy = np.random.default_rng(1), policy_of(has_canary=options.canary)
    state = RunState.begin("run", policy, 0)
    times: list[tuple[float, float]] = []
    for number in range(options.tiles):
        tally = tile_of(draw, policy)
        value = tally.to_bytes()  # the process has them: it writes the merged tile
        clock_s, cpu_s = time.perf_counter(), time.process_time()
        fold_tile(state, number, tally, value)
        judgement = judge_tile(state)
        times.append((time.perf_counter() - clock_s, time.process_time() - cpu_s))
        assert judgement.decision == HOLD, "a decision is written down with its bounds, which takes longer"
        if options.canary and not state.step:
            ordered = replace(judgement, decision=PROMOTE)
            promoted = decide(state, ordered, positions=(), decided_us=0)
            assert promoted is not None
            advance(state, promoted)
    clock, cpu = (1000 * statistics.median(column) for column in zip(*times[1:], strict=True))
    rules, tests = len(state.compiled.stage.rules), len(state.compiled.tests)
    peer = 1000 * one_by_one(state)
    print(
        f"{rules:,} rules, {tests:,} tests, stage {state.stage}: a tile takes {clock:.1f} ms ({cpu:.1f} ms CPU, median "
        f"of {len(times) - 1}); the e-values alone, one test at a time, take {peer:.1f} ms"
    )


if __name__ == "__main__":
    main()
