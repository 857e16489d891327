"""How far a simulated figure may lie from one in statistics.md: four standard errors of both. Pure.

Both are simulations, so both err. Four standard errors are missed by luck once in 16,000 comparisons: with some two
hundred of them a failure means the code, not the luck.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ERRORS: Final = 4.0
ROUNDING: Final = 0.0005
"""Half of the last digit of a share in percent with one decimal."""

Numbers = NDArray[Any]


def share_tolerance(expected: float, hits: int, runs: int, runs_said: int) -> float:
    """Allowed distance of `hits / runs` from a share that was found in `runs_said` runs.

    The standard error is that of the pooled share, one half hit and one half miss added, because 0 and 1 have none.
    """
    pooled = (hits + expected * runs_said + 0.5) / (runs + runs_said + 1)
    return ERRORS * math.sqrt(pooled * (1 - pooled) * (1 / runs + 1 / runs_said)) + ROUNDING


def is_share(expected: float, hits: int, runs: int, runs_said: int) -> bool:
    """Whether `hits` of `runs` agree with a share found in `runs_said` runs."""
    return abs(hits / runs - expected) <= share_tolerance(expected, hits, runs, runs_said)


def is_mean(expected: float, values: Numbers, runs_said: int) -> bool:
    """Whether the mean of the values agrees with one of `runs_said` runs, rounded to a whole number."""
    error = float(values.std()) * math.sqrt(1 / len(values) + 1 / runs_said)
    return abs(float(values.mean()) - expected) <= ERRORS * error + 0.5


def is_quantile(expected: float, values: Numbers, runs_said: int, step: float, q: float = 0.5) -> bool:
    """Whether a quantile of the values agrees with one of `runs_said` runs.

    Free of any assumption on the distribution: the quantiles four standard errors of q below and above enclose it,
    one step of the looks (to which values are rounded) aside.
    """
    error = ERRORS * math.sqrt(q * (1 - q) * (1 / len(values) + 1 / runs_said))
    low, high = np.quantile(values, [max(q - error, 0.0), min(q + error, 1.0)])
    return bool(low - step <= expected <= high + step)


def is_no_later(expected: float, values: Numbers, runs_said: int, step: float) -> bool:
    """Whether the median is as early as one of `runs_said` runs, or earlier: a right decision may come sooner."""
    return float(np.median(values)) <= expected or is_quantile(expected, values, runs_said, step)
