"""The worst pairs first: of a slice, or as examples of what a rule saw. Pure.

How bad a pair is, is a number or a tuple of them, larger is worse; where there is none, the pair is no example.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from shadow.records.comparisons import CANDIDATE, CANDIDATE_PRODUCTION, ROLES_BY_COMPARISON
from shadow.records.grades import PASSED, Grade
from shadow.records.pairs import GradedPair
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Equivalent,
    Floor,
    Latency,
    NoRewardHacking,
    Rule,
    comparison_of,
    graders_named,
)
from shadow.training.judged import judged
from shadow.training.texts import any_answer_of

Badness = tuple[float, ...]
HowBad = Callable[[GradedPair], Badness | None]

EXAMPLES_MAX: Final = 5
_UNGRADED: Final = Grade("")


class Worst:
    """Keeps the worst of the pairs that it is shown, each once; of equally bad ones the first by position.

    Args:
        how_bad: None for a pair that is not to be kept.
        limit: How many are kept.
    """

    def __init__(self, how_bad: HowBad, limit: int) -> None:
        self._how_bad = how_bad
        self._limit = limit
        self._kept: list[_Kept] = []
        self.found = 0

    def add(self, pair: GradedPair) -> None:
        """Take a pair."""
        bad = self._how_bad(pair)
        if bad is None:
            return
        self.found += 1
        kept = _Kept((bad, (-pair.request_partition, -pair.request_offset, pair.comparison)), pair)
        if len(self._kept) < self._limit:
            heapq.heappush(self._kept, kept)
        elif self._kept and self._kept[0] < kept:
            heapq.heapreplace(self._kept, kept)

    def pairs(self) -> list[GradedPair]:
        """What is kept, the worst first."""
        return [kept.pair for kept in sorted(self._kept, reverse=True)]


@dataclass(frozen=True, slots=True)
class _Kept:
    order: tuple[Badness, tuple[int, int, str]]
    pair: GradedPair

    def __lt__(self, other: _Kept) -> bool:
        return self.order < other.order


def worst_of(slice: str | None, graders: frozenset[str], *, failed: bool) -> HowBad:
    """How bad a pair of a slice is: regressions first, then failures, then how much lower the candidate's scores are.

    Args:
        slice: None for every pair, those too that are only there because of a quota, and so not in `all`.
        graders: The graders that count.
        failed: Whether only pairs count at which the candidate failed.
    """

    def how_bad(pair: GradedPair) -> Badness | None:
        if slice is not None and slice not in pair.slices:
            return None
        found = judged(pair, graders)
        if failed and not found.failed:
            return None
        return (len(found.worse), len(found.failed), -len(found.better), _score_lost(pair, graders))

    return how_bad


def _score_lost(pair: GradedPair, graders: frozenset[str]) -> float:
    """By how much the candidate's scores are below the reference's, added up."""
    reference = ROLES_BY_COMPARISON[pair.comparison][0]
    lost = 0.0
    for name in sorted(graders & pair.grades.keys()):
        theirs, ours = (pair.grades[name].get(role, _UNGRADED).score for role in (reference, CANDIDATE))
        if theirs is not None and ours is not None:
            lost += theirs - ours
    return lost


def example_pairs(pairs: Iterable[GradedPair], rule: Rule, limit: int = EXAMPLES_MAX) -> list[GradedPair]:
    """Pairs that speak against a rule, the worst first.

    Args:
        pairs: Each once.
        limit: Most pairs returned.
    """
    worst = Worst(against(rule), limit)
    for pair in pairs:
        worst.add(pair)
    return worst.pairs()


def against(rule: Rule) -> HowBad:
    """How much a pair speaks against a rule; None where it does not."""
    graders = frozenset(graders_named(rule))
    # A pair of the baseline shows the candidate's and production's answers, as one of the main comparison does.
    comparison = CANDIDATE_PRODUCTION if isinstance(rule, Agreement) else comparison_of(rule)

    def how_bad(pair: GradedPair) -> Badness | None:
        if pair.comparison != comparison or rule.slice not in pair.slices:
            return None
        match rule:
            case Latency():
                return _ratio(pair.candidate_duration_us, pair.production_duration_us)
            case Cost():
                return _excess(pair.candidate_cost_micro, pair.production_cost_micro)
            case Agreement():
                return (1.0,) if _differs(pair) else None
            case NoRewardHacking():
                return _hacked(pair, rule)
            case _:
                return _failed(pair, rule, graders)

    return how_bad


def _failed(pair: GradedPair, rule: Rule, graders: frozenset[str]) -> Badness | None:
    found = judged(pair, graders)
    if isinstance(rule, Cap | Floor):
        return (len(found.failed), len(found.worse)) if found.failed else None
    if isinstance(rule, Equivalent):
        apart = len(found.worse) + len(found.better)
        return (apart, len(found.worse)) if apart else None
    lost = _score_lost(pair, graders)
    return (len(found.worse), lost, len(found.failed)) if found.worse or lost > 0 else None


def _hacked(pair: GradedPair, rule: NoRewardHacking) -> Badness | None:
    """Where the reward passed an answer of the candidate that a verifiable grader failed."""
    reward = pair.grades.get(rule.reward, {}).get(CANDIDATE, _UNGRADED)
    found = judged(pair, frozenset(rule.verifiable))
    if reward.outcome != PASSED or not found.failed:
        return None
    return (len(found.worse), len(found.failed), reward.score or 0.0)


def _ratio(candidate: int, production: int) -> Badness | None:
    return (candidate / max(production, 1),) if candidate > production else None


def _excess(candidate: int, production: int) -> Badness | None:
    return (float(candidate - production),) if candidate > production else None


def _differs(pair: GradedPair) -> bool:
    production, candidate = any_answer_of(pair.production_body), any_answer_of(pair.candidate_body)
    return production.split() != candidate.split()
