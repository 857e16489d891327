"""Read the decisions topic: which runs began, how far each went, and what attempt comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shadow.records.decisions import DONE, FINAL_STAGES, PROMOTE, Decision, DecisionsRecord, Started
from shadow.records.policy import CANARY, WATCH

PROMOTED_ELSEWHERE: Final = "production is being replaced, since"
"""How the reason begins of a run that another one's promotion has ended."""

OFFLINE: Final = "offline"


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the topic tells it.

    Args:
        started: How it began.
        decisions: Its transitions by step, repeats left out; the offline stage's (step 0) is before the run.
    """

    started: Started
    decisions: tuple[Decision, ...]

    @property
    def name(self) -> str:
        return self.started.run

    @property
    def stage(self) -> str:
        """Stage that the run is in."""
        return self.decisions[-1].to_stage if self.decisions else self.started.stage

    @property
    def is_finished(self) -> bool:
        """Whether nothing can be decided any more."""
        return self.stage in FINAL_STAGES

    @property
    def is_live(self) -> bool:
        """Whether its candidate serves live requests."""
        return self.stage in (CANARY, WATCH)


def runs_in(records: Sequence[DecisionsRecord]) -> list[Run]:
    """All runs, oldest first; of two decisions with one id the first one counts."""
    started = {record.run: record for record in records if isinstance(record, Started)}
    decisions: dict[str, dict[str, Decision]] = {run: {} for run in started}
    for record in records:
        if isinstance(record, Decision) and record.run in decisions and record.from_stage != OFFLINE:
            decisions[record.run].setdefault(record.decision_id, record)
    return [
        Run(begin, tuple(sorted(decisions[run].values(), key=lambda decision: decision.step)))
        for run, begin in started.items()
    ]


def unfinished(runs: Sequence[Run], digest: str) -> Run | None:
    """The newest unfinished run of a configuration."""
    return next((run for run in reversed(runs) if run.started.digest == digest and not run.is_finished), None)


def next_attempt(runs: Sequence[Run], candidate: str, production: str) -> int:
    """Ordinal of the next run of a candidate against a production, under any configuration (statistics.md, a.6)."""
    return 1 + sum(run.started.candidate == candidate and run.started.production == production for run in runs)


def live_beside(runs: Sequence[Run], mine: Started) -> Run | None:
    """Another run whose candidate serves live requests of the same production: only one may at a time."""
    return next((run for run in runs if _is_rival(run.started, mine) and run.is_live), None)


def promoted_after(records: Sequence[DecisionsRecord], mine: Started) -> Decision | None:
    """The promotion of another candidate over the same production since a run began: it ends the run."""
    rivals: set[str] = set()
    is_after = False
    for record in records:
        if isinstance(record, Started):
            is_after = is_after or record.run == mine.run
            if _is_rival(record, mine):
                rivals.add(record.run)
        elif not isinstance(record, Decision) or record.run not in rivals or record.decision != PROMOTE:
            continue
        elif is_after and record.to_stage in (WATCH, DONE):
            return record
    return None


def _is_rival(other: Started, mine: Started) -> bool:
    return other.run != mine.run and other.production == mine.production
