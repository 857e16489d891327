"""The rule `feedback`: users' negative votes, step by step of canary (statistics.md, a.4 row 10).

Only one version served each request, so votes make no pairs. Where the candidate gets the share p of the sessions, and
users complain of its answers r times as often as of production's, its part of the negative votes is

    c = r p / (r p + 1 - p)

so each step is a rate test against its own c, and the logs of the steps add up. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shadow.gate.measures import Evidence, RateCounts, SliceEvidence
from shadow.gate.stats.cluster import CELLS_MIN
from shadow.gate.stats.engine import RATE_BELOW_KAPPA0, Side, log_e_rate
from shadow.records.policy import CANARY, Feedback
from shadow.records.slices import ALL, in_stage
from shadow.records.tallies import FEEDBACK

_EMPTY = SliceEvidence()
_NO_VOTES = RateCounts(0, 0)


@dataclass(frozen=True, slots=True)
class StepVotes:
    """Negative votes of one step.

    Args:
        share: Of the sessions that the candidate was to serve, in (0, 1).
        routed: Votes on what the candidate was to serve.
        n: All of them.
        effect: Design effect, >= 1.
        cells: Non-empty hash cells; None: enough.
    """

    share: float
    routed: int
    n: int
    effect: float = 1.0
    cells: int | None = None

    @property
    def is_spread(self) -> bool:
        """Whether enough hash cells are filled for the votes to be evidence."""
        return self.cells is None or self.cells >= CELLS_MIN


def votes_by_step(rule: Feedback, evidence: Evidence) -> tuple[StepVotes, ...]:
    """The votes of every step of canary, in their order."""
    found = []
    for number, share in enumerate(rule.steps, start=1):
        slice, name = in_stage(f"{CANARY}-{number}", ALL), f"rates/{FEEDBACK}"
        rate = evidence.slices.get(slice, _EMPTY).rates.get(FEEDBACK, _NO_VOTES)
        effect = evidence.design_effect.get(slice, {}).get(name, 1.0)
        cells = evidence.cells.get(slice, {}).get(name)
        found.append(StepVotes(share, rate.violations, rate.n, effect, cells))
    return tuple(found)


def part_allowed(share: float, ratio: float) -> float:
    """The candidate's part of the negative votes where users complain of it `ratio` times as often.

    Example:
        At a tenth of the sessions and equal answers it is a tenth:

        >>> part_allowed(0.1, 1.0), round(part_allowed(0.1, 1.5), 4)
        (0.1, 0.1429)
    """
    return ratio * share / (ratio * share + 1.0 - share)


def log_e_votes(votes: Sequence[StepVotes], ratio: float, side: Side, *, scale: float = 1.0) -> float:
    """Log e-value that users complain more (`le`) or less (`ge`) than `ratio` times as often of the candidate.

    A step with votes from fewer than 40 hash cells is no evidence yet. The product of the steps' e-values is one,
    however their votes interleave, since every factor's bets are fixed.

    Args:
        scale: As if there were so many times as many votes, each design effect as it is.
    """
    total = 0.0
    for step in votes:
        if step.is_spread and step.n:
            cap = part_allowed(step.share, ratio)
            size = scale / step.effect
            kappa0 = cap if side == "le" else RATE_BELOW_KAPPA0
            total += log_e_rate(step.routed * size, step.n * size, cap, side, kappa0)
    return total


def ratio_of(votes: Sequence[StepVotes]) -> float | None:
    """How many times as often users complain of the candidate, steps pooled; None where that cannot be said.

    Source:
        N. Mantel and W. Haenszel, J. Natl. Cancer Inst. 22 (1959): the pooled ratio of odds, whose odds of service
        p / (1 - p) are known here.
    """
    candidate = sum(step.routed * (1.0 - step.share) for step in votes)
    production = sum((step.n - step.routed) * step.share for step in votes)
    return candidate / production if production > 0 else None


def effect_of(votes: Sequence[StepVotes]) -> float:
    """Design effect of all steps together, >= 1."""
    spread = [step for step in votes if step.is_spread and step.n]
    return sum(step.n for step in spread) / sum(step.n / step.effect for step in spread) if spread else 1.0


def cells_of(votes: Sequence[StepVotes]) -> int | None:
    """Non-empty hash cells of the step that fills most; None: enough."""
    filled = [step.cells for step in votes if step.n]
    known = [cells for cells in filled if cells is not None]
    return max(known) if filled and len(known) == len(filled) else None
