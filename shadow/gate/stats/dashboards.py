"""Textbook numbers for dashboards and planning: valid for one look, so they never decide. Pure."""

from __future__ import annotations

import math

from scipy.special import betainc, betaln
from scipy.stats import binom, norm


def wilson_interval(passes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a pass rate at a single look (V26).

    Raises:
        ValueError: If n is 0 or passes is outside [0, n].

    Source:
        E. B. Wilson, J. Amer. Stat. Assoc. 22 (1927), pp. 209-212.
    """
    if not 0 <= passes <= n or n == 0:
        raise ValueError(f"{passes} passes among {n}; there must be at least one observation, and no more passes")
    z = float(norm.ppf(0.5 + confidence / 2))
    rate = passes / n
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mcnemar_p(losses: int, wins: int) -> tuple[float, float]:
    """Exact (one-sided, two-sided) p-values that losses exceed wins, for a single look (V27)."""
    n = losses + wins
    if n == 0:
        return 1.0, 1.0
    one_sided = float(binom.sf(losses - 1, n, 0.5))
    smaller_tail = float(binom.cdf(min(losses, wins), n, 0.5))
    return one_sided, min(1.0, 2 * smaller_tail)


def log_e_uniform_share(losses: int, wins: int) -> float:
    """Log e-value against equal losses and wins, with a uniform prior on a share of losses above one half (V25).

    Not used by the gate: a second method against which the engine can be checked at margin 0.
    """
    n = losses + wins
    upper_half = float(betainc(wins + 1, losses + 1, 0.5))
    return float(math.log(2) + betaln(losses + 1, wins + 1) + math.log(upper_half) + n * math.log(2))


def chance_of_false_losses(n: int, k: int, flip_rate: float) -> float:
    """Chance of at least k false losses among n equal pairs when a grader flips an answer now and then (V30).

    Why zero tolerance is no test: one flip in a thousand makes it fire in 99 % of all runs of 5,000 pairs.
    """
    return float(binom.sf(k - 1, n, flip_rate * (1 - flip_rate)))
