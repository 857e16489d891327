"""The requests that people are asked and have not answered, one line of JSON each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson

from shadow.adapters.content import request_in
from shadow.bodies import NOT_JSON, Unreadable, decoded, inflated, json_of
from shadow.desk.answered import Answered
from shadow.desk.lines import position_text
from shadow.desk.plan import DeskPlan
from shadow.desk.scan import bounds, scan
from shadow.ports import Log
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest


@dataclass(slots=True)
class Told:
    """What became of the requests that were read.

    Args:
        exported: Lines that were given out.
        answered: People have answered them already.
        sampled_out: People are not asked these.
        overdue: An answer would come after the deadline.
        unreadable: The record cannot be read.
    """

    exported: int = 0
    answered: int = 0
    sampled_out: int = 0
    overdue: int = 0
    unreadable: int = 0


def questions(log: Log, plan: DeskPlan, told: Told, *, since_us: int | None, now_us: int) -> Iterator[bytes]:
    """Lines to be answered, in order per partition; what is held in memory does not grow with the requests.

    Args:
        told: Counts, as the lines are taken.
        since_us: Append time before which requests are left out; None: all of the run.
        now_us: Append time that an answer would have now.

    Raises:
        Unavailable: If the log does not answer.
    """
    topic = plan.requests_topic
    with closing(log.admin()) as admin, closing(log.reader()) as reader:
        answered = Answered(plan, admin, reader)
        answered.refresh()
        begin = list(plan.started.requests_from)
        if since_us is not None:
            since = since_us
            begin = [max(first, admin.offset_at(topic, each, since)) for each, first in enumerate(begin)]
        for record in scan(reader, topic, bounds(admin, topic, begin)):
            line = _line(record, plan, answered, told, now_us)
            if line is not None:
                told.exported += 1
                yield line


def _line(record: LogRecord, plan: DeskPlan, answered: Answered, told: Told, now_us: int) -> bytes | None:
    request = request_in(record)
    if request is None:
        told.unreadable += 1
    elif not plan.is_asked(request.key):
        told.sampled_out += 1
    elif (record.partition, record.offset) in answered:
        told.answered += 1
    elif now_us > plan.until_us(record.time_us):
        told.overdue += 1
    else:
        return line_of(record, request, plan.run)
    return None


def line_of(record: LogRecord, request: MirroredRequest, run: str) -> bytes:
    """The question of one request. What models answered is not in it, so that people are not led."""
    question = {
        "position": position_text((record.partition, record.offset)),
        "request_id": request.request_id,
        "run": run,
        "request_time_us": record.time_us,
        "method": request.method,
        "path": request.path,
        "request": _shown(request),
    }
    try:
        return orjson.dumps(question)
    except TypeError:
        # orjson reads four times as many levels as it writes.
        return orjson.dumps({**question, "request": decoded(_plain(request))})


def _shown(request: MirroredRequest) -> Any:
    """The body as JSON where it is, else as text."""
    body = _plain(request)
    document = json_of(body)
    return decoded(body) if document is NOT_JSON else document


def _plain(request: MirroredRequest) -> bytes:
    """The body without its content encodings where they are read."""
    try:
        return inflated(request.body, request.headers)
    except Unreadable:
        return request.body
