"""The engine: e-values of a mixture over 29 fixed bets on a finite set of outcomes.

Its value depends on cumulative counts alone, so it merges by addition in any order and is valid
however often it is looked at (statistics.md, a.2). Pure: numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Side = Literal["le", "ge"]
"""`le`: evidence that the mean lies above m (H0: mean <= m); `ge`: evidence that it lies below m."""

BETS: Final = 29
ETA: Final[Floats] = np.linspace(-9.0, 5.0, BETS)
KAPPA: Final[Floats] = expit(ETA)
REST: Final[Floats] = expit(-ETA)
"""1 - kappa, without the cancellation of the subtraction."""

PAIR: Final = (-1.0, 0.0, 1.0)
"""Outcomes of a pass/fail pair: loss, tie, win."""
RATE: Final = (0.0, 0.5, 1.0)
"""Outcomes of a rate: good, (never seen), violation. The idle middle lets pairs and rates share one array."""
HISTOGRAM: Final = tuple(round(-1.0 + 0.05 * index, 2) for index in range(41))
"""Outcomes of a bounded difference: 41 bins from -1 to 1."""

PAIR_KAPPA0: Final = 0.2
RATE_BELOW_KAPPA0: Final = 0.7


@lru_cache(maxsize=256)
def log_prior(kappa0: float) -> Floats:
    """Log weights of the bets: nine tenths around `kappa0`, one tenth spread evenly.

    Args:
        kappa0: The bet that is best under the expected effect, in (0, 1).

    Returns:
        Shape (29,); the weights sum to 1.

    Raises:
        ValueError: If kappa0 is outside (0, 1).

    Source:
        statistics.md, a.2; reference vectors V1 and V33.
    """
    if not 0.0 < kappa0 < 1.0:
        raise ValueError(f"kappa0 is {kappa0}; a bet lies in (0, 1)")
    exponents = -0.5 * ((ETA - logit(kappa0)) / 1.5) ** 2
    # Relative to the largest, because far outside the grid all of them would underflow to 0.
    bell = np.exp(exponents - exponents.max())
    weights: Floats = np.log(0.9 * bell / bell.sum() + 0.1 / BETS)
    weights.setflags(write=False)
    return weights


def log_factors(outcomes: Sequence[float], means: Floats, is_above: NDArray[np.bool_]) -> Floats:
    """Log factor by which each bet grows with one observation of each outcome, for many tests.

    Args:
        outcomes: Shape (A,), increasing; the first and last are the bounds lo and hi.
        means: Null values m. Shape (J,), in (lo, hi).
        is_above: Whether the test looks for a mean above m (side `le`). Shape (J,).

    Returns:
        Shape (J, 29, A).

    Raises:
        ValueError: If a null value is not inside the bounds.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    lo, hi = float(values[0]), float(values[-1])
    if not bool(np.all((means > lo) & (means < hi))):
        raise ValueError(f"a null value is outside ({lo:g}, {hi:g}): {means}")
    above = (values[None, :] - lo) / (means[:, None] - lo)
    below = (hi - values[None, :]) / (hi - means[:, None])
    payoff = np.where(is_above[:, None], above, below)
    result: Floats = np.log(REST[None, :, None] + KAPPA[None, :, None] * payoff[:, None, :])
    return result


@lru_cache(maxsize=1024)
def cached_log_factors(outcomes: tuple[float, ...], mean: float, side: Side) -> Floats:
    """Log factors of one test, shape (29, A); see `log_factors`."""
    factors: Floats = log_factors(outcomes, np.array([mean]), np.array([side == "le"]))[0]
    factors.setflags(write=False)
    return factors


def log_mean_exp(log_values: Floats, log_weights: Floats) -> Floats:
    """Log of the weighted sum of exponentials along the last axis; -inf where every term is zero."""
    terms = log_values + log_weights
    top = terms.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        result: Floats = np.log(np.exp(terms - top).sum(axis=-1)) + top[..., 0]
    return result


def log_e_many(counts: Floats, factors: Floats, priors: Floats) -> Floats:
    """Log e-values of many tests over one set of outcomes.

    Args:
        counts: How often each outcome was seen, divided by the design effect. Shape (J, A), >= 0.
        factors: From `log_factors`. Shape (J, 29, A).
        priors: Log weights of the bets. Shape (J, 29).

    Returns:
        Shape (J,); 0 where nothing was counted. Reject the null once it reaches ln(1/alpha).
    """
    # A plain sum, because BLAS adds in an order that depends on the machine and its threads.
    wealth = (counts[:, None, :] * factors).sum(axis=-1)
    values = log_mean_exp(wealth, priors)
    return np.where(counts.sum(axis=-1) > 0, values, 0.0)


def log_e(counts: Sequence[float], outcomes: tuple[float, ...], mean: float, side: Side, kappa0: float) -> float:
    """Log e-value of one test; arguments as in `log_e_many`, outcomes one of PAIR, RATE and HISTOGRAM."""
    factors = cached_log_factors(outcomes, mean, side)
    row = np.asarray(counts, dtype=np.float64)[None, :]
    return float(log_e_many(row, factors[None], log_prior(kappa0)[None])[0])


def log_e_pair(losses: float, wins: float, ties: float, mean: float, side: Side, kappa0: float = PAIR_KAPPA0) -> float:
    """Log e-value on the difference of paired pass rates.

    Args:
        losses: Pairs that only production passed; `wins`, `ties` likewise. Counts >= 0, fractions allowed.
        mean: Null value of the difference, in (-1, 1).

    Source:
        Reference vectors V2 to V6, V20 and V24.

    Example:
        40 losses against 20 wins speak for a decrease, not yet at one in twenty:

        >>> round(log_e_pair(40, 20, 940, 0.0, "ge"), 6)
        2.326886
    """
    return log_e((losses, ties, wins), PAIR, mean, side, kappa0)


def log_e_rate(violations: float, n: float, cap: float, side: Side, kappa0: float) -> float:
    """Log e-value on a violation rate against a cap in (0, 1); vectors V9 to V15.

    Raises:
        ValueError: If there are more violations than observations.
    """
    if violations > n:
        raise ValueError(f"{violations} violations among {n} observations")
    return log_e((n - violations, 0.0, violations), RATE, cap, side, kappa0)


def log_e_histogram(counts: Sequence[float], mean: float, side: Side, kappa0: float = PAIR_KAPPA0) -> float:
    """Log e-value on the mean of a difference in [-1, 1], from its 41 bins."""
    return log_e(counts, HISTOGRAM, mean, side, kappa0)
