"""How many pairs the traffic brings, as far as the configuration can tell: for `check`, and for `plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shadow.records.comparisons import (
    BASELINE,
    BASELINE_PRODUCTION,
    CANDIDATE,
    CANDIDATE_HUMAN,
    CANDIDATE_PRODUCTION,
)
from shadow.records.policy import NoRewardHacking, Quality, Rule, comparison_of, graders_named
from shadow.records.slices import ALL
from shadow.settings.human import Human
from shadow.settings.proxy import Mirror
from shadow.settings.workers import Worker


def asked_share(comparison: str, workers: Mapping[str, Worker], human: Human | None) -> float:
    """Share of the mirrored requests of which every role of a comparison is asked, in (0, 1]."""
    candidate = workers.get(CANDIDATE)
    share = candidate.sample if candidate is not None else 1.0
    if comparison == CANDIDATE_HUMAN:
        return share * (human.sample if human is not None else 1.0)
    baseline = workers.get(BASELINE) if comparison == BASELINE_PRODUCTION else None
    return share * (baseline.sample if baseline is not None else 1.0)


@dataclass(frozen=True, slots=True)
class Supply:
    """Pairs that a known traffic brings. All mirrored requests are supposed to become pairs.

    Args:
        mirror: What is copied.
        workers, human: Who is asked how often.
        grader_slices: Slices to which a grader is bound, by grader; empty or absent: none.
        rates_per_h: Live requests an hour that methods and paths admit, by slice, `all` included.
    """

    mirror: Mirror
    workers: Mapping[str, Worker]
    human: Human | None
    grader_slices: Mapping[str, tuple[str, ...]]
    rates_per_h: Mapping[str, float] = field(default_factory=dict)

    def slice_per_h(self, slice: str) -> float:
        """Pairs of candidate and production that count in a slice, an hour.

        Raises:
            KeyError: If nobody says how much traffic the slice has.
        """
        share = asked_share(CANDIDATE_PRODUCTION, self.workers, self.human)
        return self.rates_per_h[slice] * self.mirror.rate(slice) * share

    def rule_per_h(self, rule: Rule) -> float:
        """Pairs an hour to which a rule applies: of its slice, of its comparison, and that its graders grade.

        Where a grader is bound to other slices than the rule's, the pairs of both cannot be told from rates; the
        smaller of the two is taken, which is the most that there can be.
        """
        share = self.mirror.rate(rule.slice) * asked_share(comparison_of(rule), self.workers, self.human)
        return self._graded_per_h(rule) * share

    def unknown(self, rule: Rule) -> tuple[str, ...]:
        """Slices whose traffic a rule needs to know and nobody says."""
        bound = {slice for name in graders_named(rule) for slice in self._bound(name, rule.slice)}
        return tuple(slice for slice in (rule.slice, *sorted(bound)) if slice not in self.rates_per_h)

    def _bound(self, grader: str, slice: str) -> tuple[str, ...]:
        """Slices that keep a grader from grading every pair of a slice; empty where none does."""
        slices = self.grader_slices.get(grader, ())
        return () if not slices or slice in slices or ALL in slices else slices

    def _graded_per_h(self, rule: Rule) -> float:
        whole = self.rates_per_h[rule.slice]

        def of(names: tuple[str, ...]) -> float:
            """Requests that at least one of some graders grades."""
            bound = [self._bound(name, rule.slice) for name in names]
            if not all(bound):
                return whole
            return min(whole, sum(self.rates_per_h[slice] for slice in {slice for each in bound for slice in each}))

        match rule:
            case Quality():
                return of(tuple(rule.graders))
            case NoRewardHacking():
                return min(of((rule.reward,)), of(rule.verifiable))
            case _:
                named = graders_named(rule)
                return of(named) if named else whole
