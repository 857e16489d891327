"""Logarithmic histograms of durations, and bounds of their quantiles. Pure.

For reports only: no rule decides on them (they need five to six times the pairs of rule 7b).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from shadow.gate.stats.engine import log_e_rate

ACCURACY: Final = 0.01
GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA: Final = math.log(GAMMA)


def index_of(value: float) -> int:
    """Bin of a value > 0: ceil(ln x / ln gamma) (V29)."""
    return math.ceil(math.log(value) / _LOG_GAMMA)


def value_of(index: int) -> float:
    """A bin's representative, within 1 % of everything in the bin."""
    return 2 * math.exp(index * _LOG_GAMMA) / (GAMMA + 1)


def quantile_interval(histogram: Mapping[int, int], quantile: float, *, alpha: float) -> tuple[float, float] | None:
    """Bounds of a quantile that hold at every look together, alpha on each side.

    Args:
        histogram: Count by bin.
        quantile: In (0, 1).

    Returns:
        (lower, upper) in the histogram's unit; upper is infinite while the tail has too few values. None
        without values.

    Source:
        Howard & Ramdas, arXiv 1906.09712, with the engine's rate tests (statistics.md, 7b).
    """
    n = sum(histogram.values())
    if n == 0:
        return None
    tail, need = 1 - quantile, math.log(1 / alpha)
    bins = sorted(index for index, count in histogram.items() if count)
    lower, upper = 0.0, math.inf
    above = n
    for index in bins:
        above -= histogram[index]
        if log_e_rate(above, n, tail, "le", tail / 2) >= need:
            lower = value_of(index)
        if log_e_rate(above, n, tail, "ge", 0.2) >= need:
            upper = value_of(index)
            break
    return lower, upper


def ratio_interval(
    candidate: Mapping[int, int], production: Mapping[int, int], quantile: float, *, alpha: float
) -> tuple[float, float] | None:
    """Bounds of the ratio of two quantiles; alpha is split equally over the two sides."""
    c = quantile_interval(candidate, quantile, alpha=alpha / 2)
    p = quantile_interval(production, quantile, alpha=alpha / 2)
    if c is None or p is None:
        return None
    lower = 0.0 if math.isinf(p[1]) else c[0] / p[1]
    return lower, math.inf if p[0] == 0 else c[1] / p[0]
