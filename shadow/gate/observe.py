"""What one rule sees of the evidence: its counts, its cluster correction, and whether they can be trusted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shadow.gate.measures import Evidence, RateCounts, RatioSums, SliceEvidence
from shadow.gate.stats.cluster import CELLS_MIN
from shadow.gate.votes import StepVotes, cells_of, effect_of, votes_by_step
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_HUMAN
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Feedback,
    Floor,
    Latency,
    NoRegression,
    NoRewardHacking,
    Quality,
    Rule,
    comparison_of,
)
from shadow.records.tallies import CELLS

DAY_S = 86_400
SLOW_EXPECTED_MIN = 50
"""Slow production answers to expect before their share is compared with 1 - q: fewer scatter too much."""

_EMPTY = SliceEvidence()
_ASKED = {CANDIDATE_HUMAN: "people were", BASELINE_PRODUCTION: "the baseline was"}


@dataclass(frozen=True, slots=True)
class Observation:
    """The counts of one rule.

    Args:
        n: Pairs (or answers) to which the rule applies.
        letters: Losses, ties, wins of a pair; good, 0, bad of a rate.
        histogram: 41 bins instead of letters; None otherwise.
        sums: Sums of a cost; None otherwise.
        votes: Users' votes by step of canary; None otherwise. Letters are their sum: production's, 0, candidate's.
        effect: Design effect, >= 1.
        cells: Non-empty hash cells; None: enough.
        trouble: Why the rule is BROKEN; empty if it is not.
        note: What else to say of the counts, as the end of a sentence; empty if nothing.
    """

    n: int
    letters: tuple[int, int, int]
    histogram: tuple[int, ...] | None = None
    sums: RatioSums | None = None
    effect: float = 1.0
    cells: int | None = None
    trouble: str = ""
    note: str = ""
    votes: tuple[StepVotes, ...] | None = None

    @property
    def is_spread(self) -> bool:
        """Whether enough hash cells are filled for the counts to be evidence."""
        return self.cells is None or self.cells >= CELLS_MIN


_NOTHING = (0, 0, 0)


def observe(rule: Rule, evidence: Evidence) -> Observation:
    """Find a rule's counts; with nothing to find, n is 0."""
    if isinstance(rule, Feedback):
        return _feedback(rule, evidence)
    comparison = comparison_of(rule)
    own, part = _own_part(rule, comparison, evidence)
    n, letters, histogram, sums, names, trouble = _counts(rule, part)
    effect = _first(own.design_effect.get(rule.slice), names)
    cells = _first(own.cells.get(rule.slice), names)
    if not trouble and n and cells is not None and cells < CELLS_MIN and evidence.age_s >= DAY_S:
        trouble = (
            f"after {evidence.age_s / 3600:,.0f} h its {n:,} pairs come from about {cells} sampling keys "
            f"({cells} of {CELLS} hash cells); at least {CELLS_MIN} cells are needed"
        )
    return Observation(
        n=n,
        letters=letters,
        histogram=histogram,
        sums=sums,
        effect=1.0 if effect is None else effect,
        cells=None if cells is None else int(cells),
        trouble=trouble,
        note=_asked(part, comparison),
    )


def letters_of(rule: Rule, evidence: Evidence) -> tuple[tuple[int, int, int], tuple[int, ...] | None]:
    """The letters and the histogram alone of what `observe` finds; no letters of votes."""
    if isinstance(rule, Feedback):
        return _NOTHING, None
    _, letters, histogram, *_ = _counts(rule, _own_part(rule, comparison_of(rule), evidence)[1])
    return letters, histogram


def _own_part(rule: Rule, comparison: str, evidence: Evidence) -> tuple[Evidence, SliceEvidence]:
    """A rule's comparison and slice."""
    own = evidence.of(comparison)
    part = own.slices.get(rule.slice, _EMPTY)
    if isinstance(rule, Agreement) and part.agreement is None:
        # evidence.json may state it beside the rest of the slice (design.md, section 15).
        return evidence, evidence.slices.get(rule.slice, _EMPTY)
    return own, part


def _feedback(rule: Feedback, evidence: Evidence) -> Observation:
    """The votes; few of them mean content users, so they hold the gate and are never its trouble."""
    votes = votes_by_step(rule, evidence)
    n, routed = sum(step.n for step in votes), sum(step.routed for step in votes)
    return Observation(
        n=n,
        letters=(n - routed, 0, routed),
        effect=effect_of(votes),
        cells=cells_of(votes),
        votes=votes,
    )


def _asked(part: SliceEvidence, comparison: str) -> str:
    """What became of the requests that people or the baseline were asked about, once their deadline is over."""
    if not part.asked or comparison not in _ASKED:
        return ""
    found = f"{part.pairs:,} make pairs, {part.asked - part.pairs:,} are missing"
    return f"; {_ASKED[comparison]} asked about {part.asked:,} requests: {found}"


def _first(by_name: Mapping[str, float] | None, names: tuple[str, ...]) -> float | None:
    if by_name:
        for name in names:
            if name in by_name:
                return by_name[name]
    return None


_Counts = tuple[int, tuple[int, int, int], tuple[int, ...] | None, RatioSums | None, tuple[str, ...], str]


def _counts(rule: Rule, part: SliceEvidence) -> _Counts:
    match rule:
        case Quality():
            return _quality(rule, part)
        case Cap() | Floor():
            return _rate(rule, part)
        case Cost():
            return _cost(rule, part)
        case Latency():
            return _latency(rule, part)
        case NoRewardHacking():
            hacks = part.reward_hacking
            if hacks is None:
                return 0, _NOTHING, None, None, (), ""
            ties = hacks.n - hacks.candidate_only - hacks.production_only
            letters = (hacks.production_only, ties, hacks.candidate_only)
            return hacks.n, letters, None, None, ("no_reward_hacking",), ""
        case Agreement():
            differs = part.agreement
            if differs is None:
                return 0, _NOTHING, None, None, (), ""
            ties = differs.n - differs.candidate_only_differs - differs.baseline_only_differs
            letters = (differs.baseline_only_differs, ties, differs.candidate_only_differs)
            return differs.n, letters, None, None, ("agreement",), ""
        case Feedback():
            raise AssertionError("votes are observed by step")
        case _:
            return _grader(rule.grader, part, is_numeric_allowed=isinstance(rule, NoRegression))


def _grader(grader: str, part: SliceEvidence, *, is_numeric_allowed: bool) -> _Counts:
    four = part.graders.get(grader)
    if four is not None:
        letters = (four.production_only, four.both + four.neither, four.candidate_only)
        return four.n, letters, None, None, (grader,), ""
    bins = part.numeric.get(grader)
    if bins is not None and is_numeric_allowed:
        return sum(bins), _NOTHING, bins, None, (f"numeric/{grader}", grader), ""
    return 0, _NOTHING, None, None, (), ""


def _quality(rule: Quality, part: SliceEvidence) -> _Counts:
    bins = part.numeric.get("quality")
    if bins is not None:
        return sum(bins), _NOTHING, bins, None, ("numeric/quality", "quality"), ""
    if len(rule.graders) == 1:
        return _grader(next(iter(rule.graders)), part, is_numeric_allowed=True)
    return 0, _NOTHING, None, None, (), ""


def _rate(rule: Cap | Floor, part: SliceEvidence) -> _Counts:
    grader = rule.grader
    names: tuple[str, ...] = (f"rates/{grader}", grader)
    rate = part.rates.get(grader)
    if isinstance(rule, Floor):
        own = part.rates.get(f"floor/{grader}")
        if own is not None:
            rate, names = own, (f"rates/floor/{grader}", f"floor/{grader}", grader)
    if rate is None:
        four = part.graders.get(grader)
        if four is None:
            return 0, _NOTHING, None, None, (), ""
        rate = RateCounts(four.production_only + four.neither, four.n)
        names = (f"floor/{grader}", grader)
    return rate.n, (rate.n - rate.violations, 0, rate.violations), None, None, names, ""


def _cost(rule: Cost, part: SliceEvidence) -> _Counts:
    sums = part.cost.get(rule.basis)
    if sums is None:
        return 0, _NOTHING, None, None, (), ""
    trouble = ""
    if sums.n and sums.sum_p == 0:
        trouble = f"production's cost over {sums.n:,} pairs is 0, so there is no ratio to it (are prices configured?)"
    return sums.n, _NOTHING, None, sums, (f"cost/{rule.basis}", "cost"), trouble


def _latency(rule: Latency, part: SliceEvidence) -> _Counts:
    slow = part.latency.get(rule.statistic)
    if slow is None:
        return 0, _NOTHING, None, None, (), ""
    ties = slow.n - slow.candidate_only_slow - slow.production_only_slow
    letters = (slow.production_only_slow, ties, slow.candidate_only_slow)
    trouble = ""
    tail = round(1.0 - rule.quantile, 12)
    if slow.production_slow is not None and slow.n * tail >= SLOW_EXPECTED_MIN:
        share = slow.production_slow / slow.n
        if not 0.5 * tail <= share <= 2.0 * tail:
            trouble = (
                f"production itself was slower than its reference in {share:.2%} of {slow.n:,} pairs; "
                f"its quantile {rule.quantile:g} makes {tail:.2%} of them slow, and {0.5 * tail:.2%} to {2 * tail:.2%} "
                "are accepted: the reference is stale"
            )
    names = (f"latency/{rule.statistic}", "latency")
    return slow.n, letters, None, None, names, trouble
