"""A whole stage over many runs at once, without cluster correction: the gate's tests, weights and thresholds.

`tests/calibration/test_end_to_end.py` holds it against the real fold, look by look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shadow.gate.compiled import CompiledStage, RuleTest
from shadow.gate.measures import RatioSums
from shadow.gate.rules import AVERAGE_SHARE, DETECTOR_SHARE, IMPROVE_PAIRS_MIN
from shadow.gate.stats import detector
from shadow.gate.stats.asymptotic import log_e_ratio
from shadow.gate.stats.engine import PAIR, RATE, Floats, cached_log_factors, log_mean_exp, log_prior
from shadow.records.policy import Cap, Improve


@dataclass(frozen=True)
class Counted:
    """Counts of a stage's rules in many runs.

    Args:
        letters: New losses, ties, wins (rates: good, 0, bad) of each rule at each look; zeros for cost.
            Shape (runs, looks, R, 3).
        money: n, c, p, cc, pp, cp up to each look. Shape (runs, looks, 6).
    """

    letters: NDArray[np.int64]
    money: NDArray[np.int64]


@dataclass(frozen=True)
class Decided:
    """First look at which each run is promoted, rolled back by the average, by the detector; -1 where never."""

    promoted: NDArray[np.int64]
    by_average: NDArray[np.int64]
    by_detector: NDArray[np.int64]

    @property
    def rolled_back(self) -> NDArray[np.int64]:
        """The earlier of the two causes."""
        both = np.stack([self.by_average, self.by_detector])
        least = np.where(both < 0, np.iinfo(np.int64).max, both).min(axis=0)
        return np.where(least == np.iinfo(np.int64).max, -1, least)

    def outcomes(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(Promoted, rolled back): whichever comes first is latched; a rollback wins a tie."""
        back = self.rolled_back
        is_back = (back >= 0) & ((self.promoted < 0) | (back <= self.promoted))
        return (self.promoted >= 0) & ~is_back, is_back


def log_es(compiled: CompiledStage, tests: Sequence[RuleTest], counted: Counted) -> Floats:
    """Log e-value of each test at each look. Shape (tests, runs, looks)."""
    totals = counted.letters.cumsum(axis=1)
    runs, looks = totals.shape[:2]
    result = np.zeros((len(tests), runs, looks))
    for index, test in enumerate(tests):
        if test.over == "cost":
            result[index] = _cost(counted.money, test)
            continue
        factors = cached_log_factors(RATE if test.over == "rate" else PAIR, test.mean, test.side)
        counts = totals[:, :, test.rule].reshape(-1, 3).astype(np.float64)
        result[index] = log_mean_exp(counts @ factors.T, log_prior(test.kappa0)).reshape(runs, looks)
    return result


def _cost(money: NDArray[np.int64], test: RuleTest) -> Floats:
    is_above = test.side == "le"
    flat = [log_e_ratio(RatioSums(*row), test.mean, is_above=is_above) for row in money.reshape(-1, 6).tolist()]
    return np.array(flat).reshape(money.shape[:2])


def log_srs(tests: Sequence[RuleTest], counted: Counted) -> Floats:
    """Log of the change detector's weighted sum at each look. Shape (runs, looks)."""
    runs, looks = counted.letters.shape[:2]
    followed = [test for test in tests if not test.is_promote and test.over != "cost"]
    factors = np.array(
        [cached_log_factors(RATE if test.over == "rate" else PAIR, test.mean, test.side) for test in followed]
    )
    priors = np.tile(np.array([log_prior(test.kappa0) for test in followed]), (runs, 1))
    weights = np.log([test.weight for test in followed])
    rules = [test.rule for test in followed]
    log_r = detector.fresh(runs * len(followed))
    seen = np.zeros((runs, len(followed)), dtype=bool)
    result = np.empty((runs, looks))
    for look in range(looks):
        letters = counted.letters[:, look, rules]
        increments = np.einsum("rja,jka->rjk", letters, factors).reshape(runs * len(followed), -1)
        # A rule runs from the tile behind the first one that it applies to, as in the fold.
        log_r = detector.step(log_r, increments, seen.ravel())
        seen |= letters.sum(axis=-1) > 0
        by_test = detector.log_r_by_test(log_r, priors).reshape(runs, -1)
        result[:, look] = log_mean_exp(by_test, weights)
    return result


def decide(
    compiled: CompiledStage,
    tests: Sequence[RuleTest],
    counted: Counted,
    *,
    tiles_longest_age: int,
    first_look: int = 0,
    with_detector: bool = True,
) -> Decided:
    """When each run is decided.

    Args:
        tests: The stage's, or changed ones.
        tiles_longest_age: T of the change detector.
        first_look: Looks before this one cannot promote (pairs needed).
    """
    stage = compiled.stage
    values = log_es(compiled, tests, counted)
    totals_n = counted.letters.cumsum(axis=1).sum(axis=-1)
    passes = np.ones(values.shape[1:], dtype=bool)
    passes[:, :first_look] = False
    back, weights = [], []
    for test, value in zip(tests, values, strict=True):
        if not test.is_promote:
            back.append(value)
            weights.append(math.log(test.weight))
            continue
        rule = stage.rules[test.rule]
        passes &= value >= math.log(1 / (rule.alpha if isinstance(rule, Cap) else stage.alpha))
        if isinstance(rule, Improve):
            passes &= totals_n[:, :, test.rule] >= IMPROVE_PAIRS_MIN
    average = log_mean_exp(np.moveaxis(np.array(back), 0, -1), np.array(weights))
    over_average = average >= math.log(1 / (AVERAGE_SHARE * stage.alpha))
    need = detector.need_sr(tiles_longest_age, DETECTOR_SHARE * stage.alpha)
    over_detector = log_srs(tests, counted) >= need if with_detector else np.zeros_like(passes)
    return Decided(*(_first(each) for each in (passes, over_average, over_detector)))


def _first(is_over: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(is_over.any(axis=1), is_over.argmax(axis=1), -1)
