"""The change detector: a Shiryaev-Roberts process per test, folded tile by tile (statistics.md, a.5).

    R  <-  (1 + R) * product of the tile's factors          29 bets a test, kept as logarithms

It restarts its bets at every tile, so it finds a candidate that became worse late. The order of tiles
matters, unlike in the engine. P(false alarm within T tiles) <= T / A for a threshold A. Pure.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from shadow.gate.stats.engine import BETS, Floats, log_mean_exp


def fresh(tests: int) -> Floats:
    """Log R of a detector that saw nothing. Shape (J, 29), all minus infinity."""
    return np.full((tests, BETS), -np.inf)


def step(log_r: Floats, increments: Floats, is_running: NDArray[np.bool_]) -> Floats:
    """Fold one tile.

    Args:
        log_r: State before the tile. Shape (J, 29).
        increments: Log factors summed over the tile's counts, these divided by the design effect of the
            totals before the tile. Shape (J, 29).
        is_running: Whether the totals before the tile had enough hash cells; else R stays 0. Shape (J,).

    Returns:
        State after the tile. Shape (J, 29).
    """
    return np.where(is_running[:, None], np.logaddexp(0.0, log_r) + increments, log_r)


def log_r_by_test(log_r: Floats, priors: Floats) -> Floats:
    """Log of each test's mixture over its bets; -inf before it runs. Shape (J,)."""
    if not len(log_r):
        return np.empty(0)
    return log_mean_exp(log_r, priors)


def log_sr(by_test: Floats, log_weights: Floats) -> float | None:
    """Log of the weighted sum over tests, of each of which `log_r_by_test` tells; None while nothing runs."""
    if not len(by_test):
        return None
    value = float(log_mean_exp(by_test, log_weights))
    return value if math.isfinite(value) else None


def need_sr(tiles: int, alpha: float) -> float:
    """ln(T / alpha): the threshold that keeps the chance of a false alarm within T tiles below alpha."""
    return math.log(max(tiles, 1) / alpha)
