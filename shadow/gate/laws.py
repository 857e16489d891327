"""What one rule needs to be proven, and what it would find, under stated assumptions on the traffic. Pure.

A law says how the chance of a proof grows with the pairs. Differences follow the rule of thumb of `stats.power`;
rates and costs are computed with the engine itself at the numbers that would be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Protocol

from scipy.special import bdtr, bdtrc

from shadow.gate.rules import IMPROVE_PAIRS_MIN
from shadow.gate.stats import power
from shadow.gate.stats.asymptotic import BURN_IN, log_e_normal
from shadow.gate.stats.engine import RATE_BELOW_KAPPA0, log_e_rate
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Equivalent,
    Floor,
    Improve,
    Latency,
    NoRegression,
    NoRewardHacking,
    Quality,
    Rule,
)

PAIRS_MAX: Final = 1 << 34
"""Beyond this nothing is planned."""
FAILS_SHARE: Final = 0.2
"""Part of what a cap or floor allows that the candidate is supposed to fail."""
COST_VARIATION: Final = 0.6
COST_CORRELATION: Final = 0.5
"""Standard deviation of a request's cost over its mean, and how far both roles' costs go together."""

_Z: Final = NormalDist().inv_cdf(power.LIKELY)
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Assumed:
    """What a plan supposes.

    Args:
        psi: Share of pairs whose grades differ, in (0, 1].
        psi_hacking: The same of reward hacking.
        gain: By how much the candidate is better where a rule demands it; None: twice what is demanded.
        effect: Design effect, >= 1: how many pairs of one session count as one.
    """

    psi: float = power.PSI
    psi_hacking: float = power.PSI_HACKING
    gain: float | None = None
    effect: float = 1.0


class Law(Protocol):
    """How the proof of a rule comes with the pairs (of a design effect of 1)."""

    def average(self) -> float:
        """Pairs on average; infinite where it is never proven."""
        ...

    def chance(self, pairs: float) -> float:
        """Chance that it is proven with so many pairs."""
        ...


@dataclass(frozen=True, slots=True)
class PairLaw:
    """A test of a difference in [-1, 1].

    Args:
        psi: Share of pairs that differ.
        distance: From the null value to what is supposed to be true; 0 or less: it is never proven.
        alpha: Level of the test.
        least: Pairs below which the rule says nothing.
        sides: Tests that must pass together, each for one direction.
    """

    psi: float
    distance: float
    alpha: float
    least: int = 0
    sides: int = 1

    def average(self) -> float:
        if self.distance <= 0:
            return math.inf
        return max(power.mean_factor(self.alpha) * self.psi / self.distance**2, self.least)

    def chance(self, pairs: float) -> float:
        if pairs < self.least:
            return 0.0
        return max(0.0, 1 - self.sides * (1 - power.chance(pairs, self.psi, self.distance, self.alpha)))


@dataclass(frozen=True, slots=True)
class RateLaw:
    """A test that a rate lies under a cap.

    Args:
        rate: What is supposed to be true, under the cap.
    """

    cap: float
    rate: float
    alpha: float

    def average(self) -> float:
        return _least(lambda n: self._passes(self.rate * n, n))

    def chance(self, pairs: float) -> float:
        n = math.floor(pairs)
        if n < 1 or not self._passes(0, n):
            return 0.0
        low, high = 0, n  # the most violations that still pass
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._passes(middle, n) else (low, middle)
        return float(bdtr(low, n, self.rate))

    def _passes(self, violations: float, n: float) -> bool:
        return log_e_rate(violations, n, self.cap, "ge", RATE_BELOW_KAPPA0) >= math.log(1 / self.alpha)


@dataclass(frozen=True, slots=True)
class CostLaw:
    """A test that a ratio of mean costs lies under a bound; both roles are supposed to cost the same."""

    max_ratio: float
    alpha: float

    def average(self) -> float:
        return _least(lambda n: n >= BURN_IN and self._log_e(n, 0.0) >= math.log(1 / self.alpha))

    def chance(self, pairs: float) -> float:
        if pairs < BURN_IN:
            return 0.0
        need, low, high = math.log(1 / self.alpha), -12.0, 12.0
        if self._log_e(pairs, high) >= need:
            return 1.0
        for _ in range(40):  # by how many standard errors the mean may be on the wrong side
            middle = (low + high) / 2
            low, high = (middle, high) if self._log_e(pairs, middle) >= need else (low, middle)
        return _NORMAL.cdf(low)

    def _log_e(self, n: float, errors: float) -> float:
        mean, variance = cost_moments(1.0, self.max_ratio)
        return log_e_normal(n, mean + errors * math.sqrt(variance / n), variance, 0.0, is_above=False)


def cost_moments(ratio: float, max_ratio: float) -> tuple[float, float]:
    """Mean and variance of c - rho p, in production's mean cost, where c is `ratio` times as dear as p."""
    both = 2 * ratio * max_ratio * COST_CORRELATION
    return ratio - max_ratio, COST_VARIATION**2 * (ratio**2 + max_ratio**2 - both)


def law_of(rule: object, alpha: float, assumed: Assumed) -> Law | None:
    """The law of a rule's promote test; None for a kind that no plan can foresee.

    Args:
        rule: A rule of a policy.
        alpha: Level of the rule's promote test.
    """
    match rule:
        case Quality(margin=m) | NoRegression(margin=m) | Agreement(margin=m):
            return PairLaw(assumed.psi, m, alpha)
        case Equivalent(margin=m):
            return PairLaw(assumed.psi, m, alpha, sides=2)
        case NoRewardHacking(margin=m):
            return PairLaw(assumed.psi_hacking, m, alpha)
        case Improve(by=gain):
            true = 2 * gain if assumed.gain is None else assumed.gain
            return PairLaw(max(assumed.psi, true), true - gain, alpha, IMPROVE_PAIRS_MIN)
        case Cap(max=cap):
            return RateLaw(cap, FAILS_SHARE * cap, alpha)
        case Floor(min=theta):
            return RateLaw(1 - theta, FAILS_SHARE * (1 - theta), alpha)
        case Latency():
            slow, reference = slow_shares(rule, 1.0)
            return PairLaw(slow + reference, reference - slow, alpha)
        case Cost(max_ratio=rho):
            return CostLaw(rho, alpha)
    return None


def slow_shares(rule: Latency, ratio: float) -> tuple[float, float]:
    """Shares of slow answers of a candidate `ratio` times as slow, and of production.

    The tail is supposed to be exponential, and slow answers of both roles independent.
    """
    tail = 1 - rule.quantile
    return float(tail ** (rule.max_ratio / ratio)), tail


def pairs_needed(law: Law, share: float = power.LIKELY) -> float:
    """Pairs with which a rule is proven with a chance of `share`; infinite where it never is."""
    return _least(lambda n: law.chance(n) >= share)


def _least(is_enough: Callable[[float], bool]) -> float:
    """The smallest number of pairs that is enough, for a predicate that stays true."""
    high = 1
    while not is_enough(high):
        high *= 2
        if high > PAIRS_MAX:
            return math.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return float(high)


@dataclass(frozen=True, slots=True)
class Detectable:
    """The smallest regression that a rule alone would roll back in nine runs of ten.

    Args:
        unit: `points` (a drop of a pass rate, or more hacking or disagreement), `failing` (share of answers),
            or `ratio` (to production's).
        value: Shares and points in (0, 1), ratios above the rule's; None: nothing, with so few pairs.
    """

    unit: str
    value: float | None


def detectable(rule: Rule, pairs: float, alpha: float, psi: float, psi_hacking: float) -> Detectable | None:
    """What a rule would find with so many pairs; None where it rolls nothing back.

    Args:
        pairs: Pairs over the design effect.
        alpha: Level at which its test alone crosses the threshold of the weighted average: 0.8 alpha weight.
    """
    match rule:
        case NoRegression(margin=m, strict=strict):
            return _points(0.0 if strict else m, pairs, psi, alpha)
        case NoRewardHacking(margin=m, strict=strict):
            return _points(0.0 if strict else m, pairs, psi_hacking, alpha)
        case Quality(margin=m) | Equivalent(margin=m) | Agreement(margin=m):
            return _points(m, pairs, psi, alpha)
        case Cap(max=cap):
            return Detectable("failing", _rate_found(cap, pairs, alpha))
        case Floor(min=theta):
            return Detectable("failing", _rate_found(1 - theta, pairs, alpha))
        case Latency():
            return Detectable("ratio", _ratio_found(rule.max_ratio, lambda r: _is_slow_found(rule, r, pairs, alpha)))
        case Cost(max_ratio=rho):
            return Detectable("ratio", _ratio_found(rho, lambda r: _is_cost_found(r, rho, pairs, alpha)))
    return None


def _points(null: float, pairs: float, psi: float, alpha: float) -> Detectable:
    distance = power.smallest_distance(pairs, max(psi, null), alpha)
    return Detectable("points", null + distance if distance is not None and null + distance < 1 else None)


def _rate_found(cap: float, pairs: float, alpha: float) -> float | None:
    n = math.floor(pairs)
    if n < 1 or log_e_rate(n, n, cap, "le", cap) < math.log(1 / alpha):
        return None
    low, high = math.floor(cap * n), n  # the fewest violations that are over the threshold
    while high - low > 1:
        middle = (low + high) // 2
        is_over = log_e_rate(middle, n, cap, "le", cap) >= math.log(1 / alpha)
        low, high = (low, middle) if is_over else (middle, high)
    return _bisected(cap, 1.0, lambda rate: float(bdtrc(high - 1, n, rate)) >= power.LIKELY)


def _ratio_found(least: float, is_found: Callable[[float], bool]) -> float | None:
    most = 100.0 * least
    return _bisected(least, most, is_found) if is_found(most) else None


def _bisected(low: float, high: float, is_found: Callable[[float], bool]) -> float:
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high


def _is_slow_found(rule: Latency, ratio: float, pairs: float, alpha: float) -> bool:
    slow, reference = slow_shares(rule, ratio)
    return power.chance(pairs, slow + reference, slow - reference, alpha) >= power.LIKELY


def _is_cost_found(ratio: float, max_ratio: float, pairs: float, alpha: float) -> bool:
    if pairs < BURN_IN:
        return False
    mean, variance = cost_moments(ratio, max_ratio)
    seen = mean - _Z * math.sqrt(variance / pairs)
    return seen > 0 and log_e_normal(pairs, seen, variance, 0.0, is_above=True) >= math.log(1 / alpha)
