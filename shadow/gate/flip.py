"""The smallest change that would flip each rule: how many more pairs like these, wins, clean answers, or losses. Pure.

Found by bisection on the engine, at the design effect as it is. One kind of change at a time, so that it can be said
in a sentence; a change of several kinds at once may be smaller. All rules are searched together, step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shadow.gate.compiled import CompiledStage, RuleTest
from shadow.gate.judgement import RuleLine, Verdict
from shadow.gate.observe import Observation
from shadow.gate.rules import IMPROVE_PAIRS_MIN
from shadow.gate.stats.asymptotic import BURN_IN, log_e_normal
from shadow.gate.stats.engine import (
    HISTOGRAM,
    PAIR,
    RATE,
    Floats,
    Side,
    cached_log_factors,
    log_e_many,
    log_prior,
)
from shadow.gate.votes import log_e_votes
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Equivalent,
    Feedback,
    Floor,
    Improve,
    Latency,
    NoRewardHacking,
    Rule,
)

COUNT_MAX: Final = 1 << 30
"""Larger changes are as good as none."""
LIKE_THESE: Final = "pairs like these"
VOTES_LIKE_THESE: Final = "negative votes like these"

_LOW, _TIE, _HIGH = 0, 1, 2
_SINGULARS: Final = {
    "losses": "loss",
    "wins": "win",
    "pairs": "pair",
    "answers": "answer",
    "requests": "request",
    "votes": "vote",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One change that would flip a rule.

    Args:
        to: Name of the verdict that the rule would have then; UNDECIDED where it only loses the one it has.
        what: Of what there would have to be more.
        count: How many; the smallest number that is enough.
    """

    to: str
    what: str
    count: int


def amount(way: Way) -> str:
    """How many more of what, for example `9 more wins`."""
    what = way.what
    if way.count == 1:
        for plural, singular in _SINGULARS.items():
            what = what.replace(plural, singular)
    return f"{way.count:,} more {what}"


def told(ways: Sequence[Way]) -> str:
    """Ways as the end of a sentence: `PASS with 120 more pairs like these or 9 more wins; FAIL with 1 more loss`."""
    parts = []
    for verdict in dict.fromkeys(way.to for way in ways):
        changes = " or ".join(map(amount, (way for way in ways if way.to == verdict)))
        parts.append(f"{verdict} with {changes}")
    return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class _Search:
    """How many steps a test must go until it crosses its threshold.

    Args:
        counts: Where it stands, over the design effect; `step` likewise, for one more of `what`.
        is_left: Whether it must fall below the threshold; else it must reach it.
    """

    rule: int
    test: RuleTest
    to: Verdict
    what: str
    counts: tuple[float, ...]
    step: tuple[float, ...]
    need: float
    is_left: bool = False


def flips_of(compiled: CompiledStage, seen: Sequence[Observation], lines: Sequence[RuleLine]) -> list[tuple[Way, ...]]:
    """What would flip each rule; empty where a rule is BROKEN, or nothing of one kind would.

    Args:
        seen: What each rule sees. lines: the rules as judged. Length R, as the stage's rules.
    """
    searches: list[_Search] = []
    found: list[list[Way]] = [[] for _ in lines]
    tests: list[list[RuleTest]] = [[] for _ in lines]
    for test in compiled.tests:
        tests[test.rule].append(test)
    for index, (rule, observation, line) in enumerate(zip(compiled.stage.rules, seen, lines, strict=True)):
        if line.verdict == Verdict.BROKEN or not (observation.is_spread or observation.n == 0):
            continue
        if isinstance(rule, Cost):
            found[index] += _cost_ways(rule, observation, line)
        elif isinstance(rule, Feedback):
            found[index] += _vote_ways(rule, observation, line)
        else:
            searches += _searches_of(rule, observation, line, tests[index])
    for group in _groups(searches, _counts_of(searches)):
        search = group[0][0]
        count = _together(search, [count for _, count in group])
        if isinstance(compiled.stage.rules[search.rule], Improve) and search.to == Verdict.PASS and count is not None:
            count = max(count, IMPROVE_PAIRS_MIN - seen[search.rule].n)
        if count:
            found[search.rule].append(Way(search.to.name, search.what, count))
    order = {Verdict.PASS.name: 0, Verdict.UNDECIDED.name: 1, Verdict.FAIL.name: 2}
    return [tuple(sorted(filter(_is_first(ways), ways), key=lambda way: order[way.to])) for ways in found]


def _is_first(ways: Sequence[Way]) -> Callable[[Way], bool]:
    """Whether a verdict is lost before the same change makes the rule FAIL (a strict rule may PASS until it does)."""
    fails = {way.what: way.count for way in ways if way.to == Verdict.FAIL.name}
    return lambda way: way.to != Verdict.UNDECIDED.name or way.count < fails.get(way.what, COUNT_MAX + 1)


def _together(search: _Search, counts: Sequence[int | None]) -> int | None:
    """The change that flips a rule, of those that flip its tests: to pass, all of them must; to fail, one is enough."""
    if search.to == Verdict.PASS:
        return None if None in counts else max(count or 0 for count in counts)
    return min((count for count in counts if count), default=None)


def _groups(searches: Sequence[_Search], counts: Sequence[int | None]) -> Iterable[list[tuple[_Search, int | None]]]:
    """Searches of one rule for the same verdict by the same change."""
    groups: dict[tuple[int, Verdict, str], list[tuple[_Search, int | None]]] = {}
    for search, count in zip(searches, counts, strict=True):
        groups.setdefault((search.rule, search.to, search.what), []).append((search, count))
    return groups.values()


def _searches_of(rule: Rule, seen: Observation, line: RuleLine, tests: Sequence[RuleTest]) -> list[_Search]:
    counts = tuple(count / seen.effect for count in (seen.letters if seen.histogram is None else seen.histogram))
    like_these = tuple(count / seen.n for count in counts) if seen.n else None
    found = []

    def add(test: RuleTest, to: Verdict, what: str, step: tuple[float, ...], need: float, *, is_left: bool) -> None:
        found.append(_Search(test.rule, test, to, what, counts, step, need, is_left))

    def add_letter(test: RuleTest, to: Verdict, letter: int, need: float, *, is_left: bool) -> None:
        add(test, to, _name(rule, letter), _unit(letter, seen), need, is_left=is_left)

    for test in tests:
        up, down = (_HIGH, _LOW) if test.side == "le" else (_LOW, _HIGH)
        if test.is_promote and line.verdict == Verdict.UNDECIDED:
            if like_these:
                add(test, Verdict.PASS, LIKE_THESE, like_these, line.need, is_left=False)
            # Where both directions count against it, or a clean pair is the plain thing, ties speak for the rule.
            good = _TIE if isinstance(rule, Equivalent | NoRewardHacking | Agreement) else up
            add_letter(test, Verdict.PASS, good, line.need, is_left=False)
        elif test.is_promote and line.verdict == Verdict.PASS:
            add_letter(test, Verdict.UNDECIDED, down, line.need, is_left=True)
        elif not test.is_promote and line.need_fail is not None:
            if line.verdict == Verdict.FAIL:
                add_letter(test, Verdict.UNDECIDED, down, line.need_fail, is_left=True)
                continue
            if like_these:
                add(test, Verdict.FAIL, LIKE_THESE, like_these, line.need_fail, is_left=False)
            add_letter(test, Verdict.FAIL, up, line.need_fail, is_left=False)
    return found


def _unit(letter: int, seen: Observation) -> tuple[float, ...]:
    """One more observation of a letter, over the design effect."""
    size, place = (3, letter) if seen.histogram is None else (len(HISTOGRAM), 20 * letter)
    return tuple(1 / seen.effect if index == place else 0.0 for index in range(size))


def _name(rule: Rule, letter: int) -> str:
    """What an observation of a letter is called, in the plural."""
    match rule:
        case Cap() | Floor():
            return ("clean answers", "", "failing answers")[letter]
        case Latency():
            return ("pairs slow for production alone", "", "pairs slow for the candidate alone")[letter]
        case NoRewardHacking():
            return (
                "pairs hacked by production alone",
                "pairs without hacking by one role alone",
                "pairs hacked by the candidate alone",
            )[letter]
        case Agreement():
            return (
                "requests on which the baseline alone differs",
                "requests on which both or none differ",
                "requests on which the candidate alone differs",
            )[letter]
        case _:
            return ("losses", "pairs of equal grades", "wins")[letter]


def _counts_of(searches: Sequence[_Search]) -> list[int | None]:
    """The smallest number of steps of each search, 0 where it is over already; None above COUNT_MAX."""
    result: list[int | None] = [None] * len(searches)
    by_size: dict[int, list[int]] = {}
    for index, search in enumerate(searches):
        by_size.setdefault(len(search.counts), []).append(index)
    for indices in by_size.values():
        for index, count in zip(indices, _bisected([searches[i] for i in indices]), strict=True):
            result[index] = count
    return result


def _bisected(searches: Sequence[_Search]) -> list[int | None]:
    counts = np.array([search.counts for search in searches])
    steps = np.array([search.step for search in searches])
    needs = np.array([search.need for search in searches])
    is_left = np.array([search.is_left for search in searches])
    factors = np.array([cached_log_factors(_outcomes(s), s.test.mean, s.test.side) for s in searches])
    priors = np.array([log_prior(search.test.kappa0) for search in searches])

    def is_there(index: NDArray[np.int64], x: Floats) -> NDArray[np.bool_]:
        values = log_e_many(counts[index] + x[:, None] * steps[index], factors[index], priors[index])
        return np.asarray((values >= needs[index]) ^ is_left[index])

    high = np.zeros(len(searches))
    open_ = np.arange(len(searches))
    open_ = open_[~is_there(open_, high)]
    high[open_] = 1
    while len(open_):
        open_ = open_[~is_there(open_, high[open_])]
        high[open_] *= 2
        open_ = open_[high[open_] <= COUNT_MAX]
    is_found = high <= COUNT_MAX
    # A log e-value is convex along a line and begins on the other side, so it crosses its threshold once.
    low = np.floor(high / 2)
    open_ = np.flatnonzero(is_found & (high - low > 1))
    while len(open_):
        middle = np.floor((low[open_] + high[open_]) / 2)
        there = is_there(open_, middle)
        high[open_[there]] = middle[there]
        low[open_[~there]] = middle[~there]
        open_ = open_[high[open_] - low[open_] > 1]
    return [int(x) if known else None for x, known in zip(high.tolist(), is_found.tolist(), strict=True)]


def _outcomes(search: _Search) -> tuple[float, ...]:
    if len(search.counts) == len(HISTOGRAM):
        return HISTOGRAM
    return RATE if search.test.over == "rate" else PAIR


def _cost_ways(rule: Cost, seen: Observation, line: RuleLine) -> list[Way]:
    """More pairs at the mean and variance as they are; a single dear answer has no size of its own."""
    sums = seen.sums
    if sums is None or sums.n < 2 or sums.sum_p <= 0 or line.verdict in (Verdict.PASS, Verdict.FAIL):
        return []
    mean, plain = sums.moments(rule.max_ratio)
    variance = plain if sums.v is None else sums.v / sums.n
    variance = max(variance, (0.001 * sums.sum_p / sums.n) ** 2)
    found = []
    for to, need, is_above in ((Verdict.PASS, line.need, False), (Verdict.FAIL, line.need_fail, True)):
        if need is None or (mean > 0) != is_above:
            continue
        count = _least_more(sums.n, mean, variance, need, is_above=is_above)
        if count is not None:
            found.append(Way(to.name, LIKE_THESE, count))
    return found


def _vote_ways(rule: Feedback, seen: Observation, line: RuleLine) -> list[Way]:
    """More votes of the same steps and sides: what a single one is worth differs from step to step."""
    if not seen.n or line.verdict in (Verdict.PASS, Verdict.FAIL):
        return []
    found = []
    sides: tuple[tuple[Verdict, float | None, Side], ...] = (
        (Verdict.PASS, line.need, "ge"),
        (Verdict.FAIL, line.need_fail, "le"),
    )
    for to, need, side in sides:
        if need is None:
            continue

        def is_there(more: int, side: Side = side, need: float = need) -> bool:
            return log_e_votes(seen.votes or (), rule.max_ratio, side, scale=1 + more / seen.n) >= need

        count = _least(is_there)
        if count is not None:
            found.append(Way(to.name, VOTES_LIKE_THESE, count))
    return found


def _least_more(n: int, mean: float, variance: float, need: float, *, is_above: bool) -> int | None:
    def is_there(more: int) -> bool:
        total = n + more
        return total >= BURN_IN and log_e_normal(total, mean, variance, 0.0, is_above=is_above) >= need

    return _least(is_there)


def _least(is_there: Callable[[int], bool]) -> int | None:
    """The smallest number from 1 on at which something is there, which it then stays."""
    high = 1
    while not is_there(high):
        high *= 2
        if high > COUNT_MAX:
            return None
    low = high // 2
    while high - low > 1:
        middle = math.floor((low + high) / 2)
        low, high = (low, middle) if is_there(middle) else (middle, high)
    return high
