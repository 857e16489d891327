"""Fold a partition's log again, offline: the integers that the comparators must have, whatever happened to them."""

from __future__ import annotations

from collections.abc import Iterable

from shadow.adapters.content import content_of
from shadow.errors import BrokenEvidence, InvalidRecord
from shadow.records.log import LogRecord
from shadow.records.tallies import ClosedTile
from shadow.stream.fold import Fold


def refold(fold: Fold, records: Iterable[LogRecord]) -> list[ClosedTile]:
    """Fold records from the run's first answers offset on; the fold's state is left at the last one.

    Raises:
        BrokenEvidence: If an offset is missing.
    """
    closed: list[ClosedTile] = []
    for record in records:
        if record.offset < fold.state.next:
            continue
        if record.offset > fold.state.next:
            raise BrokenEvidence(
                f"{record.topic}/{record.partition}: offsets {fold.state.next} to {record.offset - 1} are missing"
            )
        try:
            content = content_of(record, fold.spec.run)
        except InvalidRecord:
            fold.state.counters["dead_letters"] += 1
            content = None
        closed += fold.apply(record, content).closed
    return closed
