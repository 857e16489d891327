"""The exact one-look tests against scipy's own computations, by enumeration, and by seeded simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial, permutation_test

from shadow.gate.stats import exact
from shadow.gate.stats.engine import HISTOGRAM

SEED = 20_241_130


@pytest.mark.parametrize(("violations", "n", "cap"), [(0, 59, 0.05), (3, 200, 0.005), (7, 40, 0.2), (40, 40, 0.95)])
def test_rates_are_binomial(violations: int, n: int, cap: float) -> None:
    """
    Rates are tested and bounded as scipy's binomtest does.
    """
    assert binomtest(violations, n, cap, "less").pvalue == pytest.approx(exact.rate_below(violations, n, cap))
    assert binomtest(violations, n, cap, "greater").pvalue == pytest.approx(exact.rate_above(violations, n, cap))
    for side, index, alternative in ((0.05, 1, "less"), (0.05, 0, "greater")):
        interval = binomtest(violations, n, cap, alternative).proportion_ci(1 - side, method="exact")
        assert interval[index] == pytest.approx(exact.rate_interval(violations, n, side)[index])


@pytest.mark.parametrize(("losses", "wins"), [(0, 0), (3, 9), (9, 3), (12, 12)])
def test_without_a_margin_it_is_mcnemar(losses: int, wins: int) -> None:
    """
    At 0 the discordant pairs are coins, and ties say nothing.
    """
    expected = binomtest(wins, wins + losses, 0.5, "greater").pvalue if wins + losses else 1.0
    for ties in (0, 500):
        assert expected == pytest.approx(exact.pair_above(losses, ties, wins, 0.0))
        assert expected == pytest.approx(exact.pair_below(wins, ties, losses, 0.0))


@pytest.mark.parametrize(("n", "score", "win", "loss"), [(7, 2, 0.3, 0.1), (9, 0, 0.05, 0.2), (8, -3, 0.2, 0.2)])
def test_a_tail_is_the_sum_of_the_trinomial(n: int, score: int, win: float, loss: float) -> None:
    """
    The tail of wins - losses is the sum of scipy's multinomial probabilities.
    """
    counts = [(w, lost) for w, lost in product(range(n + 1), repeat=2) if w + lost <= n and w - lost >= score]
    chances = [multinomial.pmf([w, lost, n - w - lost], n, [win, loss, 1 - win - loss]) for w, lost in counts]
    found = exact._tails(n, score, np.array([win]), np.array([loss]))
    assert math.fsum(chances) == pytest.approx(float(found[0]), abs=1e-12)


@pytest.mark.parametrize(("losses", "ties", "wins", "mean"), [(4, 180, 6, -0.05), (10, 90, 25, 0.02), (2, 60, 1, -0.1)])
def test_the_largest_tail_is_missed_by_no_grid(losses: int, ties: int, wins: int, mean: float) -> None:
    """
    The p-value is at least the tail at every share of discordant pairs under its bound, and hardly more than that.
    """
    n = losses + ties + wins
    most = binomtest(wins + losses, n, 0.5, "less").proportion_ci(1 - exact.BETA, method="exact").high
    shares = np.linspace(abs(mean), most, 4001)
    largest = float(exact._tails(n, wins - losses, (shares + mean) / 2, (shares - mean) / 2).max())
    found = exact.pair_above(losses, ties, wins, mean) - exact.BETA
    assert largest <= found + 1e-12
    assert found <= 1.02 * largest + 1e-6


@pytest.mark.parametrize("mean", [-0.1, 0.05])
def test_the_error_of_a_margin_is_below_alpha(mean: float) -> None:
    """
    Enumerated over all outcomes of 40 pairs, the chance of proving what is not so is at most alpha, at every psi.
    """
    n, alpha = 40, 0.05
    outcomes = [(w, lost) for w, lost in product(range(n + 1), repeat=2) if w + lost <= n]
    rejected = [(w, lost) for w, lost in outcomes if exact.pair_above(lost, n - w - lost, w, mean) <= alpha]
    for psi in (abs(mean), 0.12, 0.2, 0.35, 0.6, 1.0):
        win, loss = (psi + mean) / 2, (psi - mean) / 2
        rows = np.array([[w, lost, n - w - lost] for w, lost in rejected])
        assert float(multinomial.pmf(rows, n, [win, loss, max(0.0, 1 - psi)]).sum()) <= alpha


def test_the_error_of_a_margin_in_simulation() -> None:
    """
    Of 600 seeded suites of 300 pairs exactly at the margin, no more are promoted than alpha allows.
    """
    rng = np.random.default_rng(SEED)
    counts = rng.multinomial(300, [0.04, 0.87, 0.09], size=600)
    distinct, times = np.unique(counts, axis=0, return_counts=True)
    wrong = sum(
        int(k) for (w, t, lost), k in zip(distinct, times, strict=True) if exact.pair_above(lost, t, w, -0.05) <= 0.05
    )
    # Binomial at .05, exceeded with chance 1e-6.
    assert wrong <= 600 * 0.05 + 4.9 * math.sqrt(600 * 0.05 * 0.95)
    assert wrong > 0


def test_bounds_and_decisions_agree() -> None:
    """
    A margin just beyond the lower bound is proven, and one just inside of it is not.
    """
    losses, ties, wins = 6, 280, 9
    lower, upper = exact.pair_interval(losses, ties, wins, 0.05)
    assert (
        exact.pair_above(losses, ties, wins, lower - 0.002)
        <= 0.05
        < exact.pair_above(losses, ties, wins, lower + 0.002)
    )
    assert (
        exact.pair_below(losses, ties, wins, upper + 0.002)
        <= 0.05
        < exact.pair_below(losses, ties, wins, upper - 0.002)
    )


def test_sign_flips_are_those_of_scipy() -> None:
    """
    A cost's p-value is near that of all sign flips, enumerated by scipy, and the same each time.
    """
    values = list(np.random.default_rng(SEED).normal(0.5, 1.0, 12))
    all_flips = permutation_test((values,), np.sum, permutation_type="samples", alternative="greater", n_resamples=5000)
    assert float(all_flips.pvalue) == pytest.approx(exact.sign_flip_above(values), abs=0.01)
    assert exact.sign_flip_above(values) == exact.sign_flip_above(values)
    assert 1e-4 == exact.sign_flip_above([1.0] * 50)
    assert 1.0 == exact.sign_flip_above([-1.0] * 50)


def test_a_bounded_mean_is_one_over_e() -> None:
    """
    In 1,000 seeded suites at the margin a bounded mean is proven no more often than alpha allows; 300 ties prove it.
    """
    rng = np.random.default_rng(SEED)
    chances = np.zeros(41)
    chances[[0, 10, 20, 30, 40]] = 0.06, 0.04, 0.82, 0.04, 0.04
    mean = float(chances @ np.array(HISTOGRAM))
    wrong = sum(
        exact.bounded_p(row.tolist(), mean, is_above=True, kappa0=0.2) <= 0.05
        for row in rng.multinomial(200, chances, size=1000)
    )
    assert wrong <= 50
    ties = [0] * 41
    ties[20] = 300
    assert exact.bounded_p(ties, -0.03, is_above=True, kappa0=0.2) <= 0.05


def test_holm_stops_at_the_first_that_is_not_rejected() -> None:
    """
    What lies behind the first p-value over its level gets that level, and is over it too.
    """
    assert [0.05 / 3, 0.05 / 2, 0.05 / 2] == pytest.approx(exact.holm_levels([0.001, 0.03, 0.04], 0.05))
    assert [] == exact.holm_levels([], 0.05)
