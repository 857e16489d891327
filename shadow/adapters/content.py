"""What a record of the answers topic says to one run: shared by the comparator and every refold."""

from __future__ import annotations

from typing import Final

from shadow.adapters.avro import decode
from shadow.errors import InvalidRecord
from shadow.records.answers import EVERY_RUN, Answer, AnswersRecord, Feedback, RecordedGrade, Report, Tick
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest

_EVERY_RUN: Final = EVERY_RUN.encode()


def content_of(record: LogRecord, run: str) -> AnswersRecord | None:
    """Decode a record of the answers topic; None where its header names another run (then it is not decoded).

    Raises:
        InvalidRecord: If it cannot be decoded, or does not belong where it stands.
    """
    header = record.headers.get("run")
    if header is not None and header != _EVERY_RUN and header != run.encode():
        return None
    content = decode(record.value)
    if isinstance(content, Answer):
        if content.request_partition != record.partition:
            raise InvalidRecord(
                f"an answer to partition {content.request_partition} stands in partition {record.partition}"
            )
        return content
    if isinstance(content, Feedback) and content.request_partition != record.partition:
        raise InvalidRecord(f"a vote of partition {content.request_partition} stands in partition {record.partition}")
    if isinstance(content, Tick | RecordedGrade | Report | Feedback):
        return content
    raise InvalidRecord(f"a {type(content).__name__} does not belong into {record.topic}")


def request_in(record: LogRecord) -> MirroredRequest | None:
    """The mirrored request in a record of the requests topic; None where it cannot be decoded.

    Such a request counts as `unreadable`; the worker has put its record into the dead letters.
    """
    try:
        content = decode(record.value)
    except InvalidRecord:
        return None
    return content if isinstance(content, MirroredRequest) else None
