"""Read the decisions topic: which runs began, how far each went, and what attempt comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shadow.records.decisions import Decision, DecisionsRecord, Started

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
        return self.stage in ("done", "rolled_back", "expired")


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
