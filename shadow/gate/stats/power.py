"""How many pairs a test over pairs needs, and what it can show with the pairs it has (statistics.md, 2.16). Pure.

Rules of thumb for the engine's tests of a difference in [-1, 1], fitted to its simulations: the number of pairs grows
with psi / distance^2, by a factor that depends on the level alone. They hold for a continuous look, independent
pairs, and kappa0 = 0.2; a design effect d multiplies the pairs by d. Standard library only, so that the settings,
which every process loads, can use it.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

PSI: Final = 0.15
"""Share of pairs whose grades differ, as planning supposes it."""
PSI_HACKING: Final = 0.02
"""The same of reward hacking."""
LIKELY: Final = 0.9
"""Chance with which a plan wants a rule proven."""

_LOG_20: Final = math.log(20.0)
_LOG_100: Final = math.log(100.0)
_MEAN: Final = (8.2, 12.0)
_LIKELY: Final = (16.0, 21.0)
_NORMAL: Final = NormalDist()


def mean_factor(alpha: float) -> float:
    """Pairs on average, in units of psi / distance^2: 8.2 at a level of 0.05, 12 at 0.01.

    Args:
        alpha: Level of the test, a probability in (0, 1).

    Example:
        >>> round(mean_factor(0.05), 1), round(mean_factor(0.01), 1)
        (8.2, 12.0)
    """
    return _between(_MEAN, alpha)


def likely_factor(alpha: float) -> float:
    """Pairs for nine runs in ten, in the same units: 16 at a level of 0.05, 21 at 0.01."""
    return _between(_LIKELY, alpha)


def _between(factors: tuple[float, float], alpha: float) -> float:
    """A straight line in ln(1/alpha) through both levels that were simulated."""
    slope = (factors[1] - factors[0]) / (_LOG_100 - _LOG_20)
    return max(factors[0] + slope * (math.log(1 / alpha) - _LOG_20), 1.0)


def pairs_likely(psi: float, distance: float, alpha: float = 0.05) -> float:
    """Pairs with which a test is decided in nine runs of ten.

    Args:
        psi: Share of pairs whose two sides differ, in (0, 1].
        distance: How far the true difference lies from the null value, > 0.
        alpha: Level of the test.
    """
    return likely_factor(alpha) * psi / distance**2


def chance(pairs: float, psi: float, distance: float, alpha: float = 0.05) -> float:
    """Chance that a test over pairs is decided with so many of them, in [0, 1].

    Not exact: a normal approximation that is 0.9 at `pairs_likely`, and close to one half at the simulated medians.
    """
    if pairs <= 0 or distance <= 0:
        return 0.0
    offset = math.sqrt(likely_factor(alpha)) - _NORMAL.inv_cdf(LIKELY)
    return _NORMAL.cdf(math.sqrt(pairs / psi) * distance - offset)


def smallest_distance(pairs: float, psi: float, alpha: float) -> float | None:
    """The smallest distance from the null value that so many pairs show in nine runs of ten.

    A difference of x needs at least x of the pairs to differ, so psi is at least the distance.

    Returns:
        In (0, 1); None where no difference is large enough.
    """
    if pairs <= 0:
        return None
    factor = likely_factor(alpha)
    distance = math.sqrt(factor * psi / pairs)
    if distance > psi:
        distance = factor / pairs
    return distance if distance < 1.0 else None
