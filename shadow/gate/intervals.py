"""Estimates of the rules, and their bounds at the level of the promote tests. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shadow.gate.observe import Observation
from shadow.gate.stats.asymptotic import ratio_interval
from shadow.gate.stats.bounds import lower_bounds, upper_bounds
from shadow.gate.stats.engine import HISTOGRAM, PAIR, RATE, RATE_BELOW_KAPPA0, Floats
from shadow.records.policy import Cap, Cost, Feedback, Floor, Latency, Rule

Interval = tuple[float | None, float | None]
NOTHING: Interval = (None, None)


def estimate_of(rule: Rule, seen: Observation) -> float | None:
    """Difference of a pair, failure rate of a cap, pass rate of a floor, ratio of a cost, candidate's part of votes."""
    if seen.n == 0:
        return None
    if seen.sums is not None:
        return seen.sums.sum_c / seen.sums.sum_p if seen.sums.sum_p else None
    if seen.histogram is not None:
        return sum(x * bin for x, bin in zip(HISTOGRAM, seen.histogram, strict=True)) / seen.n
    low, _, high = seen.letters
    if isinstance(rule, Cap | Feedback):
        return high / seen.n
    return low / seen.n if isinstance(rule, Floor) else (high - low) / seen.n


def intervals_of(rules: Sequence[Rule], seen: Sequence[Observation], alphas: Sequence[float]) -> list[Interval]:
    """Bounds of every rule's estimate, each side at its alpha; (None, None) without evidence, and for votes.

    The candidate's part of the votes is another in each step, so bounds of it all would say nothing.

    Args:
        rules: The rules; `seen` and `alphas` likewise. Length R.
    """
    result: list[Interval] = [NOTHING] * len(rules)
    pairs, rates, histograms = [], [], []
    for index, (rule, observation) in enumerate(zip(rules, seen, strict=True)):
        if observation.n == 0 or not observation.is_spread or observation.votes is not None:
            continue
        if observation.sums is not None and isinstance(rule, Cost):
            result[index] = ratio_interval(observation.sums, rule.max_ratio, alpha=alphas[index])
        elif observation.histogram is not None:
            histograms.append(index)
        elif isinstance(rule, Cap | Floor):
            rates.append(index)
        else:
            pairs.append(index)
    for indices, outcomes in ((pairs, PAIR), (rates, RATE), (histograms, HISTOGRAM)):
        if indices:
            _fill(result, indices, outcomes, rules, seen, alphas)
    return result


def _fill(
    result: list[Interval],
    indices: list[int],
    outcomes: tuple[float, ...],
    rules: Sequence[Rule],
    seen: Sequence[Observation],
    alphas: Sequence[float],
) -> None:
    counts: Floats = np.array([_row(seen[index]) for index in indices])
    levels = np.array([alphas[index] for index in indices])
    kappas = [_kappas(rules[index]) for index in indices]
    lower = lower_bounds(counts, outcomes, [above for above, _ in kappas], levels)
    upper = upper_bounds(counts, outcomes, [below for _, below in kappas], levels)
    for place, index in enumerate(indices):
        bounds = float(lower[place]), float(upper[place])
        result[index] = (1 - bounds[1], 1 - bounds[0]) if isinstance(rules[index], Floor) else bounds


def _row(seen: Observation) -> list[float]:
    return [count / seen.effect for count in (seen.letters if seen.histogram is None else seen.histogram)]


def _kappas(rule: Rule) -> tuple[float, float]:
    """kappa0 of the sides `le` and `ge`, held fixed while the null value moves."""
    match rule:
        case Cap(max=cap):
            return cap, RATE_BELOW_KAPPA0
        case Floor(min=theta):
            return 1 - theta, RATE_BELOW_KAPPA0
        case Latency() | Cost() | Feedback():
            return 0.2, 0.2
        case _:
            return rule.kappa0, rule.kappa0
