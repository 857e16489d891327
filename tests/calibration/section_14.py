"""The policy of design.md, section 14, over many independent runs at once: its counts drawn per look, not per request.

slice             share   graders
headache-red-flags  s     urgent            quality, no_regression
debug-search-api    s     pinned, current   no_regression, equivalent, no_reward_hacking (with reward)
division            s     correct           quality, improve
all                 1     reward, safe, tagged, latency, cost
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shadow.records.policy import (
    Cap,
    Equivalent,
    Floor,
    Improve,
    Latency,
    NoRegression,
    NoRewardHacking,
    Quality,
    Rule,
    StagePolicy,
)
from shadow.records.tallies import Key
from tests.calibration.batch import Counted
from tests.calibration.draws import chances
from tests.gate.policies import SHADOW

ALONE = replace(
    SHADOW, rules=tuple(r for r in SHADOW.rules if not (isinstance(r, NoRegression) and r.grader == "reward"))
)
"""Without the strict rule on `all`, as statistics.md measured it."""


def tightened(stage: StagePolicy, *, with_improve: bool = True) -> StagePolicy:
    """The margins that 2.11 calls too tight: quality .02, reward hacking .005."""
    rules = []
    for rule in stage.rules:
        if isinstance(rule, Quality):
            rules.append(replace(rule, margin=0.02))
        elif isinstance(rule, NoRewardHacking):
            rules.append(replace(rule, margin=0.005))
        elif with_improve or not isinstance(rule, Improve):
            rules.append(rule)
    return replace(stage, rules=tuple(rules))


def without_improve(stage: StagePolicy) -> StagePolicy:
    """The same without the rule that wants a gain."""
    return replace(stage, rules=tuple(rule for rule in stage.rules if not isinstance(rule, Improve)))


TYPICAL: Mapping[str, float] = {"urgent": 0.95, "pinned": 0.90, "current": 0.95, "correct": 0.85}
HIGH: Mapping[str, float] = {"urgent": 0.98, "pinned": 0.95, "current": 0.98, "correct": 0.80}
REWARD = 0.85
"""Pass rate of the reward; the text does not say it."""


@dataclass(frozen=True)
class Fourteen:
    """What is true. Args: points of each grader; share of each named slice."""

    rates: Mapping[str, float]
    share: float
    phi: float = 0.5
    points: Mapping[str, float] = field(default_factory=dict)

    def chance(self, grader: str) -> NDArray[np.float64]:
        """Chances of loss, tie with failure, tie with pass, win."""
        p = self.rates.get(grader, REWARD)
        loss, tie, win = chances(p, min(p + self.points.get(grader, 0.0), 1.0), self.phi)
        return np.array([loss, 1 - p - win, tie - (1 - p - win), win])


def simulate(
    truth: Fourteen, stage: StagePolicy, rng: np.random.Generator, *, runs: int, pairs: int, every: int
) -> Counted:
    """Counts of the stage's rules."""
    looks = pairs // every
    share = truth.share
    sizes = rng.multinomial(every, [share, share, share, 1 - 3 * share], size=(runs, looks))
    urgent = rng.multinomial(sizes[..., 0], truth.chance("urgent"))
    correct = rng.multinomial(sizes[..., 2], truth.chance("correct"))
    joint = np.einsum("i,j,k->ijk", truth.chance("pinned"), truth.chance("current"), truth.chance("reward"))
    cells = rng.multinomial(sizes[..., 1], joint.ravel()).reshape(runs, looks, 4, 4, 4)
    rest = rng.multinomial(sizes[..., 0] + sizes[..., 2] + sizes[..., 3], truth.chance("reward"))
    by_rule = {
        "quality": _letters(urgent) + _letters(correct),
        "reward": _letters(rest + cells.sum(axis=(2, 3))),
        "urgent": _letters(urgent),
        "pinned": _letters(cells.sum(axis=(3, 4))),
        "current": _letters(cells.sum(axis=(2, 4))),
        "correct": _letters(correct),
        "no_reward_hacking": _hacks(cells),
        "safe": _rate(rng.binomial(every, 0.001, size=(runs, looks)), every),
        "tagged": _rate(rng.binomial(every, 0.015, size=(runs, looks)), every),
        "latency": rng.multinomial(every, LATENCY, size=(runs, looks)),
        "cost": np.zeros((runs, looks, 3), dtype=np.int64),
    }
    names = [_name(rule) for rule in stage.rules]
    return Counted(np.stack([by_rule[name] for name in names], axis=2), _money(rng, runs, looks, every))


LATENCY = np.array([0.0425, 1 - 0.0425 - 0.0175, 0.0175])
"""An equal candidate: 5 % of production's answers are slower than tau0, 2.5 % of its own than 1.25 tau0."""


def _name(rule: object) -> str:
    if isinstance(rule, Quality):
        return "quality"
    grader = getattr(rule, "grader", "")
    return (
        str(grader)
        or {"Latency": "latency", "Cost": "cost", "NoRewardHacking": "no_reward_hacking"}[type(rule).__name__]
    )


def _letters(four: NDArray[np.int64]) -> NDArray[np.int64]:
    """Losses, ties, wins from the four joint outcomes."""
    return np.stack([four[..., 0], four[..., 1] + four[..., 2], four[..., 3]], axis=-1)


def _rate(bad: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return np.stack([n - bad, np.zeros_like(bad), bad], axis=-1)


PRODUCTION_PASSES, CANDIDATE_PASSES = np.array([1, 0, 1, 0], dtype=bool), np.array([0, 0, 1, 1], dtype=bool)


def _hacks(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reward passed beside a failed pinned or current: production only, both or none, candidate only."""

    def hack(passes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        fails = ~passes[:, None] | ~passes[None, :]
        return fails[:, :, None] & passes[None, None, :]

    p, c = hack(PRODUCTION_PASSES), hack(CANDIDATE_PASSES)
    losses, wins = (cells * (p & ~c)).sum(axis=(2, 3, 4)), (cells * (c & ~p)).sum(axis=(2, 3, 4))
    return np.stack([losses, cells.sum(axis=(2, 3, 4)) - losses - wins, wins], axis=-1)


def _money(rng: np.random.Generator, runs: int, looks: int, every: int) -> NDArray[np.int64]:
    """Log-normal costs (sigma .6, independent), drawn per request."""
    p, c = np.round(1000 * np.exp(0.6 * rng.standard_normal((2, runs, looks, every), dtype=np.float32))).astype(
        np.int64
    )
    sums = [np.full((runs, looks), every), *(each.sum(axis=-1) for each in (c, p, c * c, p * p, c * p))]
    return np.stack(sums, axis=-1).cumsum(axis=1)


Place = tuple[Key, int, Callable[..., list[int]]]


def places_of(stage: StagePolicy) -> list[Place]:
    """Where a tally keeps each rule's letters: its key, the unit of its cells, its vector from three letters."""
    return [_place(rule) for rule in stage.rules]


def _place(rule: Rule) -> Place:
    match rule:
        case Quality():
            return Key(rule.slice, "numeric", "quality"), 20, lambda a, b, c: [a, *[0] * 19, b, *[0] * 19, c]
        case Cap():
            return Key(rule.slice, "rates", rule.grader), 1, lambda a, b, c: [c, a + c]
        case Floor():
            return Key(rule.slice, "rates", f"floor/{rule.grader}"), 1, lambda a, b, c: [c, a + c]
        case Latency():
            n = Key(rule.slice, "latency", rule.statistic)
            # Production's own share of slow answers is what its quantile promises.
            return n, 1, lambda a, b, c: [c, a, a + b + c, round((a + b + c) / 20)]
        case NoRewardHacking():
            return Key(rule.slice, "reward_hacking", ""), 1, lambda a, b, c: [c, a, a + b + c]
        case NoRegression() | Improve() | Equivalent():
            return Key(rule.slice, "graders", rule.grader), 1, lambda a, b, c: [b, a, c, 0]
        case _:
            raise ValueError(f"no letters for {rule}")
