"""Records that a fold needs again, by their offsets: constants of the log, read with patience."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from shadow.adapters.content import content_of, request_in
from shadow.ports import LogAdmin
from shadow.records.answers import AnswersRecord
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest
from shadow.stream.state import AnswersAt, RequestsAt

T = TypeVar("T")


class Patiently(Protocol):
    """Calls a service until it answers."""

    def __call__(self, call: Callable[[], T]) -> T: ...


def requests_at(admin: LogAdmin, topic: str, partition: int, patiently: Patiently) -> RequestsAt:
    """Reads requests of a partition; None for one that cannot be decoded. Raises BrokenEvidence where one is gone."""

    def requests(offsets: Sequence[int]) -> dict[int, MirroredRequest | None]:
        records = patiently(lambda: admin.read_at(topic, partition, sorted(offsets)))
        return {record.offset: request_in(record) for record in records}

    return requests


def answers_at(admin: LogAdmin, topic: str, partition: int, run: str, patiently: Patiently) -> AnswersAt:
    """Reads records of the answers that were folded before, so that they can be decoded. Raises as `requests_at`."""

    def answers(offsets: Sequence[int]) -> list[tuple[LogRecord, AnswersRecord]]:
        records = patiently(lambda: admin.read_at(topic, partition, sorted(offsets)))
        return [(record, content) for record in records if (content := content_of(record, run)) is not None]

    return answers
