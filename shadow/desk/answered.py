"""Which requests of a run have an answer of a person already."""

from __future__ import annotations

from typing import Final

from shadow.adapters.avro import decode
from shadow.desk.lines import Position
from shadow.desk.plan import DeskPlan
from shadow.desk.scan import bounds, scan
from shadow.errors import InvalidRecord
from shadow.ports import LogAdmin, LogReader
from shadow.records.answers import Answer
from shadow.records.comparisons import HUMAN
from shadow.records.log import LogRecord

ROLE_HEADER: Final = "role"
"""Kafka header of a person's answer, so that it is found among all others without decoding them."""


class Answered:
    """Positions that people have answered, read from the log as far as `refresh` was called.

    Holds one position for each answer of a person, and reads what came since the last call only.
    """

    def __init__(self, plan: DeskPlan, admin: LogAdmin, reader: LogReader) -> None:
        self._plan = plan
        self._admin = admin
        self._reader = reader
        self._next = list(plan.started.answers_from)
        self._positions: set[Position] = set()

    def __contains__(self, position: Position) -> bool:
        return position in self._positions

    def refresh(self) -> None:
        """Read up to the log's present end.

        Raises:
            Unavailable: If the log does not answer; what was read before stays known.
        """
        ranges = bounds(self._admin, self._plan.answers_topic, self._next)
        for record in scan(self._reader, self._plan.answers_topic, ranges):
            self._take(record)
            self._next[record.partition] = record.offset + 1

    def _take(self, record: LogRecord) -> None:
        if record.headers.get(ROLE_HEADER) != HUMAN.encode() or record.headers.get("run") != self._plan.run.encode():
            return
        try:
            answer = decode(record.value)
        except InvalidRecord:
            return  # the comparator puts it into the dead letters, so its request is still unanswered
        if isinstance(answer, Answer) and answer.request_partition == record.partition:
            self._positions.add((answer.request_partition, answer.request_offset))
