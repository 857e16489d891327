"""Fold a partition's log again, offline: the integers that the comparators must have, whatever happened to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shadow.adapters.content import content_of
from shadow.errors import BrokenEvidence, InvalidRecord
from shadow.records.answers import ASKED, AnswersRecord, RecordedGrade
from shadow.records.log import LogRecord
from shadow.records.tallies import ClosedTile
from shadow.stream.fold import Fold
from shadow.stream.state import Effects

PutAside = Callable[[LogRecord, str], None]
"""Told of a record that cannot be read, and why."""


def _unsaid(record: LogRecord, error: str) -> None:
    """The fold's counter says how many there were."""


def refold(fold: Fold, records: Iterable[LogRecord]) -> list[ClosedTile]:
    """Fold records from the run's first answers offset on; the fold's state is left at the last one.

    Raises:
        BrokenEvidence: If an offset is missing.
    """
    closed: list[ClosedTile] = []
    for record in records:
        closed += fold_record(fold, record).closed
    return closed


def fold_record(
    fold: Fold, record: LogRecord, put_aside: PutAside = _unsaid, graders: frozenset[str] | None = None
) -> Effects:
    """Fold one record as the comparator does; one before the fold's position changes nothing.

    Args:
        graders: Graders whose recorded grades count; None for all, as in the run itself.

    Raises:
        BrokenEvidence: If an offset before it is missing.
    """
    following = fold.state.next
    if record.offset < following:
        return Effects()
    if record.offset > following:
        raise BrokenEvidence(
            f"{record.topic}/{record.partition}: offsets {following} to {record.offset - 1} are missing"
        )
    content: AnswersRecord | None = None
    try:
        content = content_of(record, fold.spec.run)
    except InvalidRecord as error:
        fold.state.counters["dead_letters"] += 1
        put_aside(record, f"the record cannot be read: {error}")
    if graders is not None and isinstance(content, RecordedGrade):
        # A mark says when the pair was asked about, whoever asked; a grade of a grader that is not there says nothing.
        content = content if content.outcome == ASKED or content.grader in graders else None
    return fold.apply(record, content)
