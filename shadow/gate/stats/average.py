"""Many rules, one error budget: the weighted average that rolls back, and e-BH to name suspects. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shadow.gate.stats.engine import log_mean_exp


def log_average(log_es: Sequence[float], weights: Sequence[float]) -> float:
    """Log of the weighted average of e-values.

    Valid under any dependence of the rules while the weights, fixed beforehand, sum to at most 1. Give it
    current values: an average of running maxima is not valid (statistics.md, 3).

    Args:
        log_es: Current log e-values.
        weights: One a test, > 0.

    Source:
        Reference vector V21.
    """
    if not log_es:
        return -np.inf
    return float(log_mean_exp(np.asarray(log_es, dtype=np.float64), np.log(np.asarray(weights, dtype=np.float64))))


def e_bh(log_es: Sequence[float], alpha: float) -> tuple[list[int], int]:
    """Order tests by their e-values and say how many are rejected at false-discovery rate alpha.

    Args:
        log_es: Current log e-values, one a test.
        alpha: Expected share of false ones among the rejected, in (0, 1).

    Returns:
        (Indices by falling e-value, number of the first ones that are rejected.)

    Source:
        Wang & Ramdas, arXiv 2009.02824; reference vector V22.
    """
    order = sorted(range(len(log_es)), key=lambda index: (-log_es[index], index))
    rejected = 0
    for rank, index in enumerate(order, start=1):
        if np.log(rank) + log_es[index] >= np.log(len(log_es) / alpha) - 1e-12:
            rejected = rank
    return order, rejected
