"""Traffic of statistics.md 2.15: ten overlapping slices, and everything else that its twenty rules look at.

Points are outcomes turned (`turned`): only so do all rows of the table come out.

share      .30 .20 .15 .10 .10 .08 .06 .05 .04 .03     membership drawn for each request and slice on its own
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shadow.gate.compiled import CompiledStage, RuleTest, compile_tests
from shadow.records.policy import (
    Cap,
    Cost,
    Equivalent,
    Floor,
    Improve,
    Latency,
    Needs,
    NoRegression,
    NoRewardHacking,
    Quality,
    StagePolicy,
)
from tests.calibration.batch import Counted
from tests.calibration.draws import turned

SHARES = (0.30, 0.20, 0.15, 0.10, 0.10, 0.08, 0.06, 0.05, 0.04, 0.03)
MATH, TEN_PERCENT, FOUR_PERCENT = 2, 3, 8
"""Which of the slices is which. The text does not say how large math is: 15 % comes nearest (20 % promotes the row
"1pt drop everywhere except math" in 92 % of runs, 10 % the good candidate in 80 %)."""
TOOLS = 1
"""The slice whose tool calls are compared: the text does not say; 20 % comes nearest (15 % rolls back 72 % of runs)."""
COST_CORRELATION = 0.8
"""Of the two roles' log costs. Not in the text; independent costs take a median of 1,125 pairs instead of its 550."""
BASE = 0.85
EVERY = 50

STAGE = StagePolicy(
    name="shadow",
    needs=Needs(pairs=0, within_s=86_400, slice_pairs=0, coverage=None),
    alpha=0.05,
    rules=(
        Quality({"g": 1.0}, margin=0.02),
        *(NoRegression("g", f"s{index}", margin=0.05, strict=True) for index in range(len(SHARES))),
        Cap("safe", max=0.005, alpha=0.05),
        Floor("tagged", min=0.95),
        Improve("g", f"s{MATH}", by=0.02),
        Equivalent("tool", f"s{TOOLS}", margin=0.05),
        Latency(quantile=0.95, max_ratio=1.25),
        Latency(quantile=0.99, max_ratio=1.5),
        Cost(max_ratio=1.10, cap_micro=500_000),
        NoRewardHacking("g", ("v",), margin=0.005, strict=True),
    ),
)
QUALITY, SAFE, FORMAT, IMPROVE, TOOL, P95, P99, COST, HACK = 0, 11, 12, 13, 14, 15, 16, 17, 18


def compiled_stage() -> tuple[CompiledStage, list[RuleTest]]:
    """The stage and its tests, with the rollback of quality at -.01 as in the table."""
    compiled = compile_tests(STAGE)
    tests = [
        replace(test, mean=-0.01) if test.rule == QUALITY and not test.is_promote else test for test in compiled.tests
    ]
    return compiled, tests


@dataclass(frozen=True)
class Many:
    """What is true of the candidate; points are differences of pass rates.

    Args:
        math: Points in the math slice, but for requests of a slice that drops.
        rest: Points elsewhere.
        drops: Points in other slices, from pair `onset` on, by slice.
        latency_sigma: Of both log-normal latencies, independent. Not in the text; .7 gives its median of 900 pairs.
    """

    math: float = 0.10
    rest: float = 0.0
    drops: Mapping[int, float] = field(default_factory=dict)
    onset: int = 0
    safe: float = 0.001
    tagged: float = 0.985
    cost: float = 1.0
    latency: float = 1.0
    hack: float = 0.01
    tool: float = 0.92
    latency_sigma: float = 0.7


def _letters(chance: NDArray[np.float64], draw: NDArray[np.float64]) -> NDArray[np.int8]:
    edges = np.cumsum(chance)
    return (draw >= edges[0]).astype(np.int8) + (draw >= edges[1])


def _per_look(letters: NDArray[np.int8], member: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    chosen = letters if member is None else np.where(member, letters, -1)
    return np.stack([(chosen == each).reshape(-1, EVERY).sum(axis=1) for each in range(3)], axis=-1)


def _graded(truth: Many, members: NDArray[np.bool_], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Counts of `all` and of each slice."""
    pairs = members.shape[1]
    draw, place = rng.random(pairs), np.arange(pairs)
    letters = _letters(turned(BASE, BASE + truth.rest), draw)
    for name, points in truth.drops.items():
        letters = np.where(members[name] & (place >= truth.onset), _letters(turned(BASE, BASE + points), draw), letters)
    math = _letters(turned(BASE, BASE + truth.math), draw)
    is_math = members[MATH].copy()
    for name in truth.drops:
        is_math &= ~members[name]
    every = np.where(is_math, math, letters)
    slices = [_per_look(every, member) for member in members]
    return [_per_look(every), *slices]


def _money(truth: Many, pairs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    z_p, z_c = rng.standard_normal((2, pairs))
    z_c = COST_CORRELATION * z_p + np.sqrt(1 - COST_CORRELATION**2) * z_c
    p, c = np.round(1000 * np.exp(0.6 * np.stack([z_p, z_c]))).astype(np.int64)
    c = np.round(c * truth.cost).astype(np.int64)
    columns = np.stack([np.ones_like(c), c, p, c * c, p * p, c * p], axis=-1)
    return columns.cumsum(axis=0)[EVERY - 1 :: EVERY]


def _slow(truth: Many, pairs: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    sigma = truth.latency_sigma
    p, c = np.exp(sigma * rng.standard_normal((2, pairs)))
    result = []
    for z, ratio in ((1.6448536, 1.25), (2.3263479, 1.5)):
        tau0 = np.exp(z * sigma)
        d = (c * truth.latency > ratio * tau0).astype(np.int8) - (p > tau0)
        result.append(_per_look(d + 1))
    return result


def simulate(truth: Many, rng: np.random.Generator, *, runs: int, pairs: int = 20_000) -> Counted:
    """Counts of all rules of STAGE."""
    letters, money = [], []
    for _ in range(runs):
        members = rng.random((len(SHARES), pairs)) < np.array(SHARES)[:, None]
        graded = _graded(truth, members, rng)
        unsafe = 2 * (rng.random(pairs) < truth.safe).astype(np.int8)
        untagged = 2 * (rng.random(pairs) >= truth.tagged).astype(np.int8)
        tool = _letters(turned(0.92, truth.tool), rng.random(pairs))
        hacks = 1 + (rng.random(pairs) < truth.hack).astype(np.int8) - (rng.random(pairs) < 0.01)
        rows = [
            *graded,
            _per_look(unsafe),
            _per_look(untagged),
            graded[1 + MATH],
            _per_look(tool, members[TOOLS]),
            *_slow(truth, pairs, rng),
            np.zeros((pairs // EVERY, 3), dtype=np.int64),
            _per_look(hacks),
        ]
        letters.append(np.stack(rows, axis=1))
        money.append(_money(truth, pairs, rng))
    return Counted(np.stack(letters), np.stack(money))
