"""Exact tests for one look: rates, paired differences with a margin, bounded scores and costs. Pure.

Unlike the engine's e-values they may be looked at once. Each returns a p-value whose chance of being at most a, where
the null holds, is at most a: for every sample size, with no approximation that needs many pairs.

    rates           Clopper-Pearson's binomial tail
    pairs, m = 0    McNemar's conditional test: the discordant pairs are coins
    pairs, m != 0   the tail of the difference of wins and losses, at the worst share of discordant pairs
    bounded scores  the engine's e-value at this one look (1/e), which is conservative
    costs           sign flips: exact where candidate and ratio x production could be exchanged within each pair
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.special import bdtr, bdtrc, betaincinv

from shadow.gate.stats.engine import Floats, log_e_histogram

BETA: Final = 1e-4
"""Chance, part of every p-value with a margin, that the share of discordant pairs lies above its bound."""
FLIPS: Final = 9999
"""Random sign flips of a cost test; the smallest p-value is 1 in 10,000."""

_SEED: Final = 20_240_607
_CELLS: Final = 16
_CELLS_MAX: Final = 64
_CLOSE: Final = 0.01
_TINY: Final = 1e-7
_FLIPPED_AT_ONCE: Final = 4_000_000
_TURNED_AT_ONCE: Final = 500_000
_HALVINGS: Final = 11


def rate_below(violations: int, n: int, cap: float) -> float:
    """P-value against "the rate is at least the cap".

    Example:
        Nothing in 59 says less than 5 %, nothing in 58 does not yet:

        >>> [round(rate_below(0, n, 0.05), 4) for n in (58, 59)]
        [0.051, 0.0485]
    """
    return float(bdtr(violations, n, cap))


def rate_above(violations: int, n: int, cap: float) -> float:
    """P-value against "the rate is at most the cap"."""
    return float(bdtrc(violations - 1, n, cap))


def rate_interval(violations: int, n: int, alpha: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds of a rate, each side at alpha.

    Source:
        C. J. Clopper, E. S. Pearson, Biometrika 26 (1934), pp. 404-413. Tested against
        `scipy.stats.binomtest(...).proportion_ci(method="exact")`.
    """
    lower = float(betaincinv(violations, n - violations + 1, alpha)) if violations else 0.0
    return lower, _rate_upper(violations, n, alpha)


def _rate_upper(violations: int, n: int, alpha: float) -> float:
    return float(betaincinv(violations + 1, n - violations, 1.0 - alpha)) if violations < n else 1.0


def pair_above(losses: int, ties: int, wins: int, mean: float) -> float:
    """P-value against "the difference is at most `mean`", D = +1 for a win, -1 for a loss, 0 for a tie.

    At 0 it is McNemar's test in its conditional form, where ties say nothing. Elsewhere the share psi of discordant
    pairs is a nuisance: the p-value is the largest tail of wins - losses over all psi up to an upper bound that fails
    with chance BETA, plus BETA. The largest tail is enclosed from above cell by cell, so that no grid can miss it.

    Args:
        losses, ties, wins: Counts of pairs, each independent of the others; not all 0.
        mean: Null value, in (-1, 1).

    Source:
        Q. McNemar, Psychometrika 12 (1947), pp. 153-157. R. L. Berger, D. D. Boos, J. Amer. Stat. Assoc. 89 (1994),
        pp. 1012-1016. Unconditional tests of paired non-inferiority: H. Hsueh, J. Liu, J. J. Chen, Biometrics 57
        (2001), pp. 478-483. Where the pairs are drawn by strata the tails are no larger: W. Hoeffding, Ann. Math.
        Stat. 27 (1956), pp. 713-721.

    Example:
        Without one discordant pair, 300 pairs prove a decrease of no more than 5 points, and 100 do not:

        >>> [round(pair_above(0, n, 0, -0.05), 4) for n in (100, 300)]
        [0.0565, 0.0001]
    """
    if mean == 0.0:
        return float(bdtrc(wins - 1, wins + losses, 0.5))
    return _margin_above(losses, ties, wins, mean)


def pair_below(losses: int, ties: int, wins: int, mean: float) -> float:
    """P-value against "the difference is at least `mean`"; as `pair_above` with wins and losses exchanged."""
    return pair_above(wins, ties, losses, -mean)


@lru_cache(maxsize=1024)
def pair_interval(losses: int, ties: int, wins: int, alpha: float) -> tuple[float, float]:
    """Bounds of the difference at which the test with a margin would just decide, each side at alpha; to 0.001."""
    return _pair_lower(losses, ties, wins, alpha), -_pair_lower(wins, ties, losses, alpha)


def _pair_lower(losses: int, ties: int, wins: int, alpha: float) -> float:
    n = losses + ties + wins
    lo, hi = -1.0, (wins - losses) / n
    for _ in range(_HALVINGS):
        middle = (lo + hi) / 2
        if -1.0 < middle < 1.0 and _margin_above(losses, ties, wins, middle, enough=alpha) <= alpha:
            lo = middle
        else:
            hi = middle
    return lo


@lru_cache(maxsize=16_384)
def _margin_above(losses: int, ties: int, wins: int, mean: float, *, enough: float = 1.0) -> float:
    """The test with a margin.

    Args:
        enough: A p-value above it need not be told from a larger one.
    """
    n, score = losses + ties + wins, wins - losses
    most = _rate_upper(wins + losses, n, BETA)
    least = abs(mean)
    if most < least:
        # Fewer pairs can be discordant than the null needs; above 0 all of them lie within the null then.
        tail = 0.0 if mean < 0 else float(_tails(n, score, np.array([most]), np.array([0.0]))[0])
    else:
        tail = _largest_tail(n, score, mean, least, most, enough - BETA)
    return min(1.0, tail + BETA)


def _largest_tail(n: int, score: int, mean: float, least: float, most: float, enough: float) -> float:
    """An upper bound, one in a hundred too large at most, of the largest tail with psi in [least, most].

    Within a cell [a, b] of psi, wins are no more likely than at b, and losses no less than at a.

    Args:
        enough: Once some tail is above it, any value above it will do.
    """
    edges = np.linspace(least, most, _CELLS + 1)
    lows, highs = edges[:-1], edges[1:]
    reached = float(_tails(n, score, (edges + mean) / 2, (edges - mean) / 2).max())
    done = 0.0
    while True:
        bounds = _tails(n, score, (highs + mean) / 2, (lows - mean) / 2)
        if reached > enough:
            return max(done, float(bounds.max()))
        is_open = bounds > max(reached * (1 + _CLOSE) + _TINY, enough if enough < 1.0 - BETA else 0.0)
        done = max(done, float(bounds.max(where=~is_open, initial=0.0)))
        opened = int(is_open.sum())
        if opened == 0 or opened > _CELLS_MAX:
            return max(done, float(bounds.max()))
        lows, highs = lows[is_open], highs[is_open]
        middles = (lows + highs) / 2
        reached = max(reached, float(_tails(n, score, (middles + mean) / 2, (middles - mean) / 2).max()))
        lows, highs = np.concatenate([lows, middles]), np.concatenate([middles, highs])


def _tails(n: int, score: int, wins: Floats, losses: Floats) -> Floats:
    """P(W - L >= score) among n pairs, for probabilities of a win and of a loss. Shape (C,).

    The n-th power of the characteristic function, turned back: exact but for about 1e-13.
    """
    size = 1 << (2 * n + 1).bit_length()
    angles = 2 * np.pi * np.arange(size // 2 + 1) / size
    cosines, sines = np.cos(angles), np.sin(angles)
    result: Floats = np.empty(len(wins))
    rows = max(1, _TURNED_AT_ONCE // size)
    for first in range(0, len(wins), rows):
        win = np.clip(wins[first : first + rows], 0.0, 1.0)[:, None]
        loss = np.clip(losses[first : first + rows], 0.0, 1.0)[:, None]
        # numpy's transform back takes exp(+i), so the sign of the sine puts a sum s at index s mod size.
        real, imaginary = (1.0 - win - loss) + (win + loss) * cosines, (loss - win) * sines
        with np.errstate(divide="ignore"):
            sizes = np.exp(n / 2 * np.log(real**2 + imaginary**2))
        turned = sizes * np.exp(1j * n * np.arctan2(imaginary, real))
        chances = np.fft.irfft(turned, n=size, axis=-1)
        tail = chances[:, max(score, 0) : n + 1].sum(axis=-1)
        if score < 0:
            tail += chances[:, size + score :].sum(axis=-1)
        result[first : first + rows] = tail
    return np.clip(result, 0.0, 1.0)


def bounded_p(histogram: Sequence[int], mean: float, *, is_above: bool, kappa0: float) -> float:
    """P-value on the mean of a difference in [-1, 1], from its 41 bins: 1/e of the engine at this look.

    Markov's inequality makes it valid at any one look; it is not exact, and needs about half as many pairs again.

    Args:
        is_above: Against "at most `mean`"; else against "at least `mean`".
    """
    return min(1.0, math.exp(-log_e_histogram(histogram, mean, "le" if is_above else "ge", kappa0)))


def sign_flip_above(values: Sequence[float]) -> float:
    """P-value against "each value is as likely to have the other sign, or lies below": evidence for a mean above 0.

    With Y = candidate - ratio x production of each pair, the null is that both could be exchanged within the pair. It
    is not the null of equal means alone: costs that differ only far out in the tail need a cap on each answer.

    Source:
        R. A. Fisher, The Design of Experiments (1935), section 21; with random flips: M. Dwass, Ann. Math. Stat. 28
        (1957), pp. 181-187. The flips are seeded, so that the same values give the same p-value.
    """
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    if not len(sizes):
        return 1.0
    total = math.fsum(values) - 1e-9 * float(sizes.sum())
    half = (total + float(sizes.sum())) / 2  # the sum of all signs is twice that of the positive ones, less all sizes
    rng = np.random.Generator(np.random.PCG64(_SEED))
    rows = max(1, _FLIPPED_AT_ONCE // len(sizes))
    reached = 0
    for first in range(0, FLIPS, rows):
        is_positive = rng.integers(0, 2, size=(min(rows, FLIPS - first), len(sizes)), dtype=np.uint8)
        reached += int((is_positive.astype(np.float64) @ sizes >= half).sum())
    return (1 + reached) / (1 + FLIPS)


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level that each p-value must not pass, for a chance of at most alpha of any false rejection.

    Source:
        S. Holm, Scand. J. Stat. 6 (1979), pp. 65-70. A p-value behind the first that is not rejected gets that one's
        level, and is not rejected either.

    Example:
        >>> holm_levels([0.04, 0.001, 0.03], 0.05)
        [0.025, 0.016666666666666666, 0.025]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    levels = [0.0] * len(p_values)
    is_stopped, level = False, 0.0
    for place, index in enumerate(order):
        if not is_stopped:
            level = alpha / (len(p_values) - place)
            is_stopped = p_values[index] > level
        levels[index] = level
    return levels
