"""Read the records of `shadow-decisions`."""

from __future__ import annotations

from collections.abc import Sequence

from shadow.adapters.avro import decode
from shadow.errors import InvalidRecord
from shadow.records.decisions import Decision, DecisionsRecord, Started
from shadow.records.log import LogRecord


def decisions_in(records: Sequence[LogRecord]) -> list[DecisionsRecord]:
    """The records of the topic that this version can read; a foreign one is passed over."""
    contents: list[DecisionsRecord] = []
    for record in records:
        try:
            content = decode(record.value)
        except InvalidRecord:
            continue  # a newer version's record, or a tombstone: it says nothing about the runs known here
        if isinstance(content, Started | Decision):
            contents.append(content)
    return contents
