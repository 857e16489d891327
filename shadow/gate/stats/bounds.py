"""Confidence sequences: the engine's e-values inverted in their null value, kappa0 held fixed.

Valid at every look together, and never at odds with a decision: the null is rejected exactly when it
lies outside the bound (statistics.md, a.2). Pure: numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shadow.gate.stats.engine import (
    PAIR,
    PAIR_KAPPA0,
    RATE,
    RATE_BELOW_KAPPA0,
    Floats,
    log_e_many,
    log_factors,
    log_prior,
)

HALVINGS = 44
"""Halvings of an interval of length 2: an error below 1e-12."""


def lower_bounds(counts: Floats, outcomes: Sequence[float], kappa0s: Sequence[float], alphas: Floats) -> Floats:
    """One-sided lower bounds of many means.

    Args:
        counts: Seen outcomes over the design effect. Shape (J, A).
        outcomes: Values of the outcomes. Shape (A,).
        kappa0s: Centre of the bets of each test's side `le`. Length J.
        alphas: Chance that the bound is ever wrong. Shape (J,), in (0, 1).

    Returns:
        Shape (J,); the least possible outcome where nothing is known.
    """
    return _invert(counts, outcomes, kappa0s, alphas, is_lower=True)


def upper_bounds(counts: Floats, outcomes: Sequence[float], kappa0s: Sequence[float], alphas: Floats) -> Floats:
    """One-sided upper bounds of many means; as `lower_bounds`, from the side `ge`."""
    return _invert(counts, outcomes, kappa0s, alphas, is_lower=False)


def _invert(
    counts: Floats, outcomes: Sequence[float], kappa0s: Sequence[float], alphas: Floats, *, is_lower: bool
) -> Floats:
    tests = len(counts)
    needs = -np.log(alphas)
    priors = np.array([log_prior(kappa0) for kappa0 in kappa0s]).reshape(tests, -1)
    is_above = np.full(tests, is_lower)
    lo, hi = np.full(tests, float(outcomes[0])), np.full(tests, float(outcomes[-1]))
    # log e falls with m on the side `le` and rises with it on the side `ge`.
    for _ in range(HALVINGS):
        middle = (lo + hi) / 2
        is_rejected = log_e_many(counts, log_factors(outcomes, middle, is_above), priors) >= needs
        moves_lo = is_rejected if is_lower else ~is_rejected
        lo = np.where(moves_lo, middle, lo)
        hi = np.where(moves_lo, hi, middle)
    edge = float(outcomes[0]) if is_lower else float(outcomes[-1])
    bound = lo if is_lower else hi
    return np.where(np.abs(bound - edge) < 1e-12, edge, bound)


def pair_interval(
    losses: float, wins: float, ties: float, *, alpha: float, kappa0: float = PAIR_KAPPA0
) -> tuple[float, float]:
    """Lower and upper bound of the difference of paired pass rates, alpha on each side (V7, V8)."""
    counts = np.array([[losses, ties, wins]], dtype=np.float64)
    alphas = np.array([alpha])
    lower = lower_bounds(counts, PAIR, [kappa0], alphas)[0]
    return float(lower), float(upper_bounds(counts, PAIR, [kappa0], alphas)[0])


def rate_upper(violations: float, n: float, *, alpha: float, kappa0: float = RATE_BELOW_KAPPA0) -> float:
    """Upper bound of a violation rate (V14)."""
    counts = np.array([[n - violations, 0.0, violations]], dtype=np.float64)
    return float(upper_bounds(counts, RATE, [kappa0], np.array([alpha]))[0])


def log_need(alpha: float) -> float:
    """ln(1/alpha): what a log e-value must reach."""
    return math.log(1.0 / alpha)
