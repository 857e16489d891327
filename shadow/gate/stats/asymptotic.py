"""Asymptotic e-value for means without bounds, such as cost (statistics.md, a.3). Pure.

A normal mixture with the variance estimated from the data. It is not exact: it is used from 500
observations on, and a cap on every single value must hold before (the workers enforce it).
"""

from __future__ import annotations

import math
from typing import Final

from scipy.special import log_ndtr

from shadow.gate.measures import RatioSums

BURN_IN: Final = 500
"""Observations below which the approximation is not trusted and log e is 0."""
N_OPT: Final = 5000
ALPHA_OPT: Final = 0.05


def mixture_scale(n_opt: float = N_OPT, alpha: float = ALPHA_OPT) -> float:
    """The parameter r that makes the bound tightest around `n_opt` observations: 790.031745 by default."""
    two_sided = 2 * math.log(1 / (2 * alpha))
    return n_opt / (two_sided + math.log(1 + two_sided))


def log_e_normal(n: float, mean: float, variance: float, null: float, *, is_above: bool) -> float:
    """Log e-value that the mean lies above (or below) the null value.

    Does not check the burn-in; `log_e_ratio` does.

    Args:
        n: Observations, > 0.
        mean: Their mean.
        variance: Variance of one observation, > 0.
        null: Null value m.
        is_above: Whether a mean above m counts as evidence.

    Source:
        Waudby-Smith et al., arXiv 2103.06476; reference vectors V17 and V19.
    """
    score = n * (mean - null) / math.sqrt(variance) * (1.0 if is_above else -1.0)
    r = mixture_scale()
    total = n + r
    return float(
        math.log(2) + 0.5 * math.log(r / total) + score * score / (2 * total) + log_ndtr(score / math.sqrt(total))
    )


def log_e_ratio(sums: RatioSums, rho: float, *, is_above: bool, inflation: float | None = None) -> float:
    """Log e-value that the ratio of means lies above (or below) rho.

    Args:
        sums: What was counted.
        rho: Null value of the ratio.
        is_above: Whether a ratio above rho counts as evidence.
        inflation: Cluster variance over plain variance, for a rho other than the one `sums.v` is for;
            None: use `sums.v`.

    Returns:
        0 below 500 pairs or where production's sum is 0.
    """
    if sums.n < BURN_IN or sums.sum_p <= 0:
        return 0.0
    mean, plain = sums.moments(rho)
    variance = plain if sums.v is None else sums.v / sums.n
    if inflation is not None:
        variance = plain * inflation
    # A constant cost has no variance at all; the floor keeps the score finite.
    variance = max(variance, (0.001 * sums.sum_p / sums.n) ** 2)
    return log_e_normal(sums.n, mean, variance, 0.0, is_above=is_above)


def ratio_interval(sums: RatioSums, rho: float, *, alpha: float) -> tuple[float | None, float | None]:
    """Lower and upper bound of the ratio of means, alpha on each side; None where there is none yet.

    Args:
        rho: The rule's ratio, at which `sums.v` was taken; its inflation of the variance is used throughout.
    """
    if sums.n < BURN_IN or sums.sum_p <= 0:
        return None, None
    plain = sums.moments(rho)[1]
    inflation = 1.0 if sums.v is None or plain <= 0 else sums.v / sums.n / plain
    need = math.log(1 / alpha)
    estimate = sums.sum_c / sums.sum_p
    span = max(estimate, 1.0)
    lower = _crossing(sums, estimate, 0.0, need, inflation, is_above=True)
    upper = _crossing(sums, estimate, estimate + 8 * span, need, inflation, is_above=False)
    return lower, upper


def _crossing(
    sums: RatioSums, estimate: float, far: float, need: float, inflation: float, *, is_above: bool
) -> float | None:
    if log_e_ratio(sums, far, is_above=is_above, inflation=inflation) < need:
        return None
    near = estimate
    for _ in range(50):
        middle = (near + far) / 2
        if log_e_ratio(sums, middle, is_above=is_above, inflation=inflation) >= need:
            far = middle
        else:
            near = middle
    return near
