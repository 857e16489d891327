"""What the offline stage decided, read from the decisions topic: runs that have not begun, and looks that were taken.

    shadow offline ──► hold ──► hold ──► promote (step 0) ──► shadow start ──► Started ──► the run's own steps
                                   └───► rollback (step 0): the attempt is over before it began

Pure. A promote belongs to the run that the next `shadow start` would begin; a rollback uses that run's name up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shadow.gate.history import OFFLINE, next_attempt, runs_in
from shadow.records.decisions import HOLD, PROMOTE, ROLLBACK, Decision, DecisionsRecord, Started, decision_id


@dataclass(frozen=True, slots=True)
class Trial:
    """One judgement of a suite.

    Args:
        candidate, production: The versions that were asked.
        digest: Of the configuration.
        attempt: Of the run that it is for.
    """

    decision: Decision
    candidate: str
    production: str
    digest: str
    attempt: int


def trials_in(records: Sequence[DecisionsRecord]) -> list[Trial]:
    """All trials, oldest first; of two with one id the first one counts."""
    found: dict[str, Trial] = {}
    for record in records:
        if isinstance(record, Decision) and record.from_stage == OFFLINE:
            told = _told(record)
            if told is not None:
                found.setdefault(record.decision_id, told)
    return list(found.values())


def _told(decision: Decision) -> Trial | None:
    """A trial whose evidence says whom it was about; None for one of a version that said it otherwise."""
    try:
        tree: Any = json.loads(decision.evidence)["run"]
        return Trial(
            decision, str(tree["candidate"]), str(tree["production"]), str(tree["digest"]), int(tree["attempt"])
        )
    except (ValueError, KeyError, TypeError):
        return None


def attempt_next(records: Sequence[DecisionsRecord], candidate: str, production: str) -> int:
    """Ordinal of the next run: those that began, and those that the offline stage rolled back before."""
    begun = {record.run for record in records if isinstance(record, Started)}
    refused = {
        trial.decision.run
        for trial in trials_in(records)
        if trial.decision.decision == ROLLBACK and (trial.candidate, trial.production) == (candidate, production)
    }
    return next_attempt(runs_in(records), candidate, production) + len(refused - begun)


def promoted(records: Sequence[DecisionsRecord], run: str, digest: str) -> Decision | None:
    """The promote that lets a run of this configuration begin."""
    return next(
        (
            trial.decision
            for trial in trials_in(records)
            if trial.decision.run == run and trial.decision.decision == PROMOTE and trial.digest == digest
        ),
        None,
    )


def look_of(records: Sequence[DecisionsRecord], candidate: str, production: str, attempt: int, hold_id: str) -> int:
    """Ordinal of a look at this candidate: its attempts, and every suite on which it was held before.

    Args:
        hold_id: Id that a hold of this look would have; the same data again are the same look.
    """
    held = [
        trial.decision.decision_id
        for trial in trials_in(records)
        if trial.decision.decision == HOLD and (trial.candidate, trial.production) == (candidate, production)
    ]
    return attempt + (held.index(hold_id) if hold_id in held else len(held))


def hold_id_of(run: str, evidence_digest: str) -> str:
    """Id of a hold, of which a run may have several: one for each set of data."""
    return decision_id(f"{run}/{OFFLINE}/{evidence_digest}", 0)


def not_begun(records: Sequence[DecisionsRecord]) -> dict[str, list[Trial]]:
    """Trials of runs that have not begun, by run."""
    begun = {record.run for record in records if isinstance(record, Started)}
    found: dict[str, list[Trial]] = {}
    for trial in trials_in(records):
        if trial.decision.run not in begun:
            found.setdefault(trial.decision.run, []).append(trial)
    return found
