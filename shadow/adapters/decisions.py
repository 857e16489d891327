"""Read the records of `shadow-decisions`."""

from __future__ import annotations

from collections.abc import Sequence

from shadow.adapters.avro import decode
from shadow.errors import InvalidRecord
from shadow.ports import DecisionWriter
from shadow.records.decisions import Command, Decision, DecisionsRecord, Obeyed, Started
from shadow.records.log import LogRecord


class DecisionsTail:
    """All records of the topic, of which each is decoded once. One thread at a time."""

    def __init__(self, writer: DecisionWriter) -> None:
        self._writer = writer
        self._offsets: list[int] = []
        self._contents: list[DecisionsRecord] = []

    def read(self) -> Sequence[DecisionsRecord]:
        """The records up to an end that is asked for now. Raises Unavailable."""
        records = self._writer.read()
        known = len(self._offsets)
        if [record.offset for record in records[:known]] != self._offsets:
            # The topic was made anew, or compacted while this reader was out of it.
            self._offsets, self._contents, known = [], [], 0
        self._contents += decisions_in(records[known:])
        self._offsets += [record.offset for record in records[known:]]
        return self._contents


def decisions_in(records: Sequence[LogRecord]) -> list[DecisionsRecord]:
    """The records of the topic that this version can read; a foreign one is passed over."""
    contents: list[DecisionsRecord] = []
    for record in records:
        try:
            content = decode(record.value)
        except InvalidRecord:
            continue  # a newer version's record, or a tombstone: it says nothing about the runs known here
        if isinstance(content, Started | Decision | Command | Obeyed):
            contents.append(content)
    return contents
