"""When an e-value first reaches its threshold, for many runs at once, with the engine's own factors and weights.

runs   x   looks         blocks of looks; a run that has crossed is left out of the next block
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from shadow.gate.stats.asymptotic import BURN_IN, mixture_scale
from shadow.gate.stats.engine import PAIR, Floats, Side, cached_log_factors, log_mean_exp, log_prior

BLOCK: Final = 40
NEVER: Final = -1

Statistic = Callable[[NDArray[Any]], Floats]
"""From counts, shape (N, A), to the number that is compared with the threshold, shape (N,)."""


@dataclass(frozen=True)
class Engine:
    """Log e-value of the engine (`log_e_many`) for many counts of one test."""

    mean: float
    side: Side
    kappa0: float = 0.2
    outcomes: tuple[float, ...] = PAIR

    def __call__(self, counts: NDArray[Any]) -> Floats:
        wealth = counts @ cached_log_factors(self.outcomes, self.mean, self.side).T
        result: Floats = log_mean_exp(wealth, log_prior(self.kappa0))
        return result


@dataclass(frozen=True)
class Bet:
    """An oracle: log wealth of the one bet that grows fastest under the known alternative, at mean 0, side `ge`.

    It is the likelihood ratio of the known share of losses against one half.
    """

    chance: Floats

    def __call__(self, counts: NDArray[Any]) -> Floats:
        share = self.chance[0] / (self.chance[0] + self.chance[2])
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(2 * np.array([share, 1 - share]))
            # Without wins in the alternative, one win ends the bet; 0 * -inf must stay 0.
            return counts[:, 0] * logs[0] + np.where(counts[:, 2] > 0, counts[:, 2] * logs[1], 0.0)


def asymptotic(counts: NDArray[Any], burn_in: int = BURN_IN) -> Floats:
    """`log_e_normal` of the difference against mean 0, side `ge`, on arrays; 0 below the burn-in."""
    losses, _, wins = counts.T.astype(np.float64)
    n = counts.sum(axis=-1)
    mean = (wins - losses) / n
    variance = np.maximum((wins + losses - n * mean**2) / np.maximum(n - 1, 1), 1e-12)
    score, r = -n * mean / np.sqrt(variance), mixture_scale()
    total = n + r
    value = math.log(2) + 0.5 * np.log(r / total) + score**2 / (2 * total) + log_ndtr(score / np.sqrt(total))
    return np.where(n >= burn_in, value, 0.0)


def mcnemar(counts: NDArray[Any]) -> Floats:
    """The textbook's z of losses against wins."""
    losses, wins = counts[:, 0].astype(np.float64), counts[:, 2]
    result: Floats = (losses - wins) / np.sqrt(np.maximum(losses + wins, 1))
    return result


def first_crossing(totals: NDArray[Any], statistic: Statistic, need: float) -> NDArray[np.int64]:
    """Index of the look at which each run's statistic first reaches `need`; NEVER where it does not.

    Args:
        totals: Counts up to each look. Shape (runs, looks, A).
    """
    runs, looks, letters = totals.shape
    found = np.full(runs, NEVER, dtype=np.int64)
    left = np.arange(runs)
    for start in range(0, looks, BLOCK):
        block = totals[left, start : start + BLOCK]
        values = statistic(block.reshape(-1, letters)).reshape(len(left), -1)
        # Merging by addition may leave a last digit, so the threshold is met within rounding.
        is_over = values >= need - 1e-12
        crossed = is_over.any(axis=1)
        found[left[crossed]] = start + is_over[crossed].argmax(axis=1)
        left = left[~crossed]
        if not len(left):
            break
    return found


def pairs_at(first: NDArray[np.int64], every: int, pairs: int) -> NDArray[np.int64]:
    """Pairs after which each run crossed; undecided runs count as `pairs`."""
    return np.where(first == NEVER, pairs, (first + 1) * every)
