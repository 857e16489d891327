"""The reference values of statistics.md, section 4: V1 to V34, to 6 decimals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import quad

from shadow.gate.stats import asymptotic, average, bounds, dashboards, detector, quantiles, retry
from shadow.gate.stats.engine import (
    KAPPA,
    PAIR,
    cached_log_factors,
    log_e_histogram,
    log_e_pair,
    log_e_rate,
    log_prior,
)

COST = asymptotic.RatioSums(2000, 2100, 2000, 2900, 2600, 2450)


def weight(kappa0: float, index: int) -> float:
    return math.exp(log_prior(kappa0)[index])


def smallest_clean_n(alpha: float) -> int:
    return next(n for n in range(3000, 7000) if log_e_rate(0, n, 0.001, "ge", 0.7) >= math.log(1 / alpha))


def uniform_share_by_quadrature() -> float:
    integral, _ = quad(lambda p: math.exp(40 * math.log(p) + 20 * math.log1p(-p) + 60 * math.log(2)), 0.5, 1 - 1e-15)
    return math.log(2 * integral)


def sr_after(buckets: int) -> float:
    """R of V23 after so many buckets."""
    log_r = detector.fresh(1)
    factors = cached_log_factors(PAIR, 0.0, "ge")
    for losses, wins, ties in [(2, 1, 47), (5, 1, 44), (6, 2, 42)][:buckets]:
        increment = (factors * np.array([losses, ties, wins])).sum(axis=-1)[None]
        log_r = detector.step(log_r, increment, np.array([True]))
    return float(np.exp(detector.log_r_by_test(log_r, log_prior(0.2)[None])[0]))


VECTORS: list[tuple[str, Callable[[], float], float]] = [
    ("V1 kappa_14", lambda: KAPPA[14], 0.119203),
    ("V1 kappa_15", lambda: KAPPA[15], 0.182426),
    ("V1 kappa_28", lambda: KAPPA[28], 0.993307),
    ("V1 w_0", lambda: weight(0.2, 0), 0.003449),
    ("V1 w_15", lambda: weight(0.2, 15), 0.122788),
    ("V1 w_28", lambda: weight(0.2, 28), 0.003462),
    ("V1 sum_w", lambda: float(np.exp(log_prior(0.2)).sum()), 1.0),
    ("V2", lambda: log_e_pair(40, 20, 940, 0.0, "ge"), 2.326886),
    ("V2 e", lambda: math.exp(log_e_pair(40, 20, 940, 0.0, "ge")), 10.245985),
    ("V3", lambda: log_e_pair(40, 20, 940, 0.0, "le"), -1.892087),
    ("V4", lambda: log_e_pair(150, 160, 4690, -0.02, "le"), 16.585656),
    ("V6", lambda: log_e_pair(60, 150, 790, 0.02, "le"), 10.410691),
    ("V7 lower", lambda: bounds.pair_interval(150, 160, 4690, alpha=0.05)[0], -0.008459),
    ("V7 upper", lambda: bounds.pair_interval(150, 160, 4690, alpha=0.05)[1], 0.012496),
    ("V8 lower", lambda: bounds.pair_interval(40, 20, 940, alpha=0.05)[0], -0.043771),
    ("V8 upper", lambda: bounds.pair_interval(40, 20, 940, alpha=0.05)[1], 0.002261),
    ("V9", lambda: log_e_rate(18, 2000, 0.005, "le", 0.005), 1.508577),
    ("V11", lambda: log_e_rate(0, 5000, 0.001, "ge", 0.7), 3.798911),
    ("V12 alpha 05", lambda: smallest_clean_n(0.05), 4043),
    ("V12 alpha 01", lambda: smallest_clean_n(0.01), 5940),
    ("V13", lambda: log_e_rate(190, 5000, 0.05, "ge", 0.7), 5.693706),
    ("V14 upper", lambda: bounds.rate_upper(190, 5000, alpha=0.05), 0.047720),
    ("V14 lower pass", lambda: 1 - bounds.rate_upper(190, 5000, alpha=0.05), 0.952280),
    ("V15", lambda: log_e_rate(150, 2000, 0.05, "le", 0.05), 9.537655),
    ("V17 mean", lambda: COST.moments(1.1)[0], -0.05),
    ("V17 var", lambda: COST.moments(1.1)[1], 0.325663),
    ("V17 r", asymptotic.mixture_scale, 790.031745),
    ("V17 s", lambda: 2000 * 0.05 / math.sqrt(COST.moments(1.1)[1]), 175.233003),
    ("V17", lambda: asymptotic.log_e_ratio(COST, 1.1, is_above=False), 5.564739),
    ("V19", lambda: asymptotic.log_e_normal(10000, -0.005, (1200 - 0.25) / 9999, 0.0, is_above=False), 0.265585),
    ("V20 rollback", lambda: log_e_pair(30, 55, 4915, 0.0, "le"), 2.594030),
    ("V20 promote", lambda: log_e_pair(30, 55, 4915, 0.005, "ge"), -1.010568),
    ("V21", lambda: average.log_average([4.0, 1.0, -2.0], [0.2, 0.3, 0.5]), 2.468335),
    ("V21 threshold", lambda: bounds.log_need(0.05), 2.995732),
    ("V22", lambda: average.e_bh([math.log(e) for e in (300, 90, 35, 10, 2)], 0.05)[1], 3),
    ("V23 R1", lambda: sr_after(1), 1.044203),
    ("V23 R2", lambda: sr_after(2), 4.561822),
    ("V23 R3", lambda: sr_after(3), 11.255807),
    ("V23 threshold", lambda: detector.need_sr(1440, 0.025), 10.961278),
    ("V24", lambda: log_e_pair(20, 10, 470, 0.0, "ge"), 0.996542),
    ("V25", lambda: dashboards.log_e_uniform_share(40, 20), 2.194248),
    ("V25b", uniform_share_by_quadrature, 2.194248),
    ("V26 lower", lambda: dashboards.wilson_interval(4810, 5000)[0], 0.956336),
    ("V26 upper", lambda: dashboards.wilson_interval(4810, 5000)[1], 0.966955),
    ("V27 one-sided", lambda: dashboards.mcnemar_p(40, 20)[0], 0.006745),
    ("V27 two-sided", lambda: dashboards.mcnemar_p(40, 20)[1], 0.013489),
    ("V29 gamma", lambda: quantiles.GAMMA, 1.020202),
    ("V29 i100", lambda: quantiles.index_of(100), 231),
    ("V29 i250_5", lambda: quantiles.index_of(250.5), 277),
    ("V29 i3000", lambda: quantiles.index_of(3000), 401),
    ("V29 rep100", lambda: quantiles.value_of(231), 100.494568),
    ("V29 rep3000", lambda: quantiles.value_of(401), 3011.570594),
    ("V30 n200 k1", lambda: dashboards.chance_of_false_losses(200, 1, 0.001), 0.181187),
    ("V30 n5000 k1", lambda: dashboards.chance_of_false_losses(5000, 1, 0.001), 0.993245),
    ("V30 n5000 k3", lambda: dashboards.chance_of_false_losses(5000, 3, 0.001), 0.875053),
    ("V33 kappa_7", lambda: KAPPA[7], 0.004070),
    ("V33 w7", lambda: weight(0.005, 7), 0.122479),
    ("V33 kappa_20", lambda: KAPPA[20], 0.731059),
    ("V33 w20", lambda: weight(0.7, 20), 0.122703),
    ("V34 j1", lambda: retry.attempt_alpha(0.05, 1), 0.05),
    ("V34 j2", lambda: retry.attempt_alpha(0.05, 2), 0.007599),
    ("V34 j3", lambda: retry.attempt_alpha(0.05, 3), 0.003377),
]


@pytest.mark.parametrize(("value", "expected"), [(v, e) for _, v, e in VECTORS], ids=[name for name, _, _ in VECTORS])
def test_reference_value(value: Callable[[], float], expected: float) -> None:
    """Every reference value agrees to 6 decimals."""
    assert abs(expected - value()) <= 5.1e-7


def test_first_bet_to_twelve_decimals() -> None:
    """V1: the smallest bet is given to twelve decimals."""
    assert round(float(KAPPA[0]), 12) == 0.000123394576


def test_no_rule_alone_reaches_the_threshold() -> None:
    """V21: the average can speak where no weighted rule does."""
    weighted = [e + math.log(w) for e, w in zip((4.0, 1.0, -2.0), (0.2, 0.3, 0.5), strict=True)]
    assert round(weighted[0], 6) == 2.390562
    assert not [value for value in weighted if value >= math.log(20)]


def test_order_of_suspects() -> None:
    """V22: k times the k-th largest e-value is 300, 180, 105, 40, 10."""
    values = [10.0, 300.0, 35.0, 2.0, 90.0]
    order, rejected = average.e_bh([math.log(value) for value in values], 0.05)
    assert [(rank + 1) * values[index] for rank, index in enumerate(order)] == [300, 180, 105, 40, 10]
    assert rejected == 3


def test_histogram_of_extremes_is_a_pair_test() -> None:
    """A histogram with mass at -1, 0 and 1 alone gives the pair's value (V4)."""
    counts = [0] * 41
    counts[0], counts[20], counts[40] = 150, 4690, 160
    assert round(log_e_histogram(counts, -0.02, "le"), 6) == 16.585656
