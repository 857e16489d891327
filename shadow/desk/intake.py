"""Take people's answers in: all lines are checked before one is written.

By number here and in the body:

 1. Every line is read for itself.
 2. The request at each position is read: it must be the one that the line names, and people must be asked it.
 3. The answers topic is read to its end: what a person has answered already is passed over, so that the same
    lines may be taken in again at any time.
 4. Anything wrong refuses all lines, with every problem.
 5. The answers are written and acknowledged. Where that ends early, taking the same lines in again writes the rest;
    should two desks write the same answer at once, the fold counts the first and drops the other as a duplicate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from shadow.adapters.avro import encode
from shadow.adapters.content import request_in
from shadow.desk.answered import ROLE_HEADER, Answered
from shadow.desk.lines import HumanAnswer, Line, Position, position_text
from shadow.desk.plan import DeskPlan
from shadow.errors import BrokenEvidence, Unavailable, Usage
from shadow.ports import Clock, Log
from shadow.records.answers import ANSWERED, Answer
from shadow.records.comparisons import HUMAN
from shadow.records.log import LogRecord
from shadow.stream.answer import headers_of

CHUNK: Final = 64
"""Requests that are read in one go; the largest are 4 MiB each."""
PROBLEMS_MAX: Final = 1000
"""Problems that are told; the rest is only counted."""
FLUSH_S: Final = 60.0

Lines = Callable[[], Iterable[Line]]
"""Gives the same lines each time it is called, so that they need not be held in memory."""


class Rejected(Usage):
    """Some lines are wrong, and none was written.

    Args:
        problems: One sentence each.
        is_late: Whether nothing else is wrong than that the answers come too late.
    """

    def __init__(self, problems: list[str], *, is_late: bool) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.is_late = is_late


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was taken in.

    Args:
        written: Answers that were written and acknowledged.
        skipped: Answers to requests that a person has answered before.
        late: Of the written ones, those that come after their deadline and count as late.
    """

    written: int
    skipped: int
    late: int


@dataclass(frozen=True, slots=True)
class _Place:
    """What an answer takes over from its request."""

    time_us: int
    key: bytes
    headers: Mapping[str, bytes]


class _Problems:
    def __init__(self) -> None:
        self._told: list[str] = []
        self._count = 0

    def add(self, where: str, sentence: str) -> None:
        self._count += 1
        if self._count <= PROBLEMS_MAX:
            self._told.append(f"{where}: {sentence}")

    def raise_any(self, *, is_late: bool = False) -> None:
        if self._count > PROBLEMS_MAX:
            self._told.append(f"and {self._count - PROBLEMS_MAX:,} more")
        if self._told:
            raise Rejected(self._told, is_late=is_late)


class Desk:
    """Takes answers of one run in. One thread at a time.

    Args:
        log: The log.
        plan: The run.
        clock: Wall clock, against which deadlines are held.
    """

    def __init__(self, log: Log, plan: DeskPlan, clock: Clock) -> None:
        self.plan = plan
        self._log = log
        self._clock = clock
        self._admin = log.admin()
        self._reader = log.reader()
        self._writer = log.writer()
        self._answered = Answered(plan, self._admin, self._reader)

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._reader.close()
        self._admin.close()

    def prepare(self) -> None:
        """Read what stands in the log already, so that the first `take` need not. Raises Unavailable."""
        self._answered.refresh()

    def take(self, lines: Lines, *, with_late: bool = False) -> Receipt:
        """Check all lines, then write what is new.

        Args:
            with_late: Write answers too that come after their deadline, or after the run's end.

        Raises:
            Rejected: If a line is wrong; then none was written.
            Unavailable: If the log does not answer; take the same lines in again.
        """
        problems = _Problems()
        # 1. Each line for itself.
        found = self._positions(lines(), problems)
        # 2. With its request.
        places = self._places(found, problems)
        # 3. What is there already.
        self._answered.refresh()
        new = [position for position in places if position not in self._answered]
        # 4. All or nothing.
        problems.raise_any()
        now_us = self._clock.now_us()
        late = [
            position for position in new if self.plan.ended or now_us > self.plan.until_us(places[position].time_us)
        ]
        if late and not with_late:
            for position in late:
                problems.add(found[position][0], self._late(places[position].time_us, now_us))
            problems.raise_any(is_late=True)
        # 5. Written and acknowledged.
        self._write(lines(), {position: places[position] for position in new}, now_us)
        return Receipt(len(new), len(places) - len(new), len(late))

    def _positions(self, lines: Iterable[Line], problems: _Problems) -> dict[Position, tuple[str, str]]:
        """Line and request id by position; a position that is there twice is a problem."""
        found: dict[Position, tuple[str, str]] = {}
        for line in lines:
            for sentence in line.problems:
                problems.add(line.where, sentence)
            if line.answer is None:
                continue
            first = found.setdefault(line.answer.position, (line.where, line.answer.request_id))
            if first[0] != line.where:
                problems.add(line.where, f"answers {position_text(line.answer.position)} again, as {first[0]} does")
        return found

    def _places(self, found: Mapping[Position, tuple[str, str]], problems: _Problems) -> dict[Position, _Place]:
        ends = self._admin.ends(self.plan.requests_topic) if found else []
        places = {}
        begin = self.plan.started.requests_from
        known: list[Position] = []
        for position in sorted(found):
            partition, offset = position
            if partition < min(len(begin), len(ends)) and begin[partition] <= offset < ends[partition][1]:
                known.append(position)
            else:
                problems.add(found[position][0], f"position: the run has no request {position_text(position)}")
        for partition, group in groupby(known, lambda position: position[0]):
            for record in self._requests(partition, [offset for _, offset in group], found, problems):
                where, request_id = found[partition, record.offset]
                sentence = self._wrong(record, request_id)
                if sentence is not None:
                    problems.add(where, sentence)
                else:
                    headers = {**headers_of(record, self.plan.run), ROLE_HEADER: HUMAN.encode()}
                    places[partition, record.offset] = _Place(record.time_us, record.key or b"", headers)
        return places

    def _requests(
        self, partition: int, offsets: list[int], found: Mapping[Position, tuple[str, str]], problems: _Problems
    ) -> Iterator[LogRecord]:
        """The requests at these offsets, a few at a time."""
        for begin in range(0, len(offsets), CHUNK):
            wanted = offsets[begin : begin + CHUNK]
            try:
                yield from self._admin.read_at(self.plan.requests_topic, partition, wanted)
            except BrokenEvidence:
                # One that is gone must not hide the others.
                for offset in wanted:
                    try:
                        yield from self._admin.read_at(self.plan.requests_topic, partition, [offset])
                    except BrokenEvidence:
                        place = position_text((partition, offset))
                        problems.add(
                            found[partition, offset][0], f"position: the request {place} is not in the log any more"
                        )

    def _wrong(self, record: LogRecord, request_id: str) -> str | None:
        place = position_text((record.partition, record.offset))
        request = request_in(record)
        if request is None:
            return f"position: the request {place} cannot be read, so nobody can have answered it"
        if request.request_id != request_id:
            return f"request_id: read {ascii(request_id)[:80]}, and the request {place} is {request.request_id!r}"
        if not self.plan.is_asked(request.key):
            return f"position: people are not asked the request {place}; `shadow answers export` lists those they are"
        return None

    def _is_late(self, place: _Place, now_us: int) -> bool:
        return bool(self.plan.ended) or now_us > self.plan.until_us(place.time_us)

    def _late(self, request_time_us: int, now_us: int) -> str:
        if self.plan.ended:
            return f"the run has ended ({self.plan.ended}), so the answer would count nowhere"
        over_s = (now_us - self.plan.until_us(request_time_us)) / 1e6
        return (
            f"comes {over_s:,.0f} s after the deadline of {self.plan.deadline_us / 1e6:,.0f} s, so it would count "
            "as late and not as evidence"
        )

    def _write(self, lines: Iterable[Line], new: Mapping[Position, _Place], now_us: int) -> None:
        failed: list[str] = []
        acknowledged = 0

        def delivered(error: str | None, offset: int) -> None:
            nonlocal acknowledged
            acknowledged += error is None
            if error is not None:
                failed.append(error)

        deadline_s = time.monotonic() + FLUSH_S
        for line in lines:
            if line.answer is None or line.answer.position not in new:
                continue
            place = new[line.answer.position]
            value = encode(self._record(line.answer, place, now_us))
            topic, partition = self.plan.answers_topic, line.answer.position[0]
            while not self._writer.write(
                topic, partition, key=place.key, value=value, headers=place.headers, on_delivery=delivered
            ):
                # The queue is full: room comes as records are acknowledged.
                self._writer.flush(0.1)
                if time.monotonic() > deadline_s:
                    break
            self._writer.poll()
        left = self._writer.flush(FLUSH_S)
        if left or failed or acknowledged < len(new):
            # What is still queued is given up, so that it is not written behind the back of the next try.
            self._writer.close()
            self._writer = self._log.writer()
            why = failed[0] if failed else f"the rest was not acknowledged within {FLUSH_S:g} s"
            raise Unavailable(
                f"{acknowledged:,} of {len(new):,} answers were written: {why}; take the same lines in again, "
                "what is there already is passed over"
            )

    def _record(self, answer: HumanAnswer, place: _Place, now_us: int) -> Answer:
        return Answer(
            run=self.plan.run,
            request_partition=answer.position[0],
            request_offset=answer.position[1],
            request_time_us=place.time_us,
            role=HUMAN,
            version=answer.by,
            outcome=ANSWERED,
            # What people write is an answer like a model's, and graders look at the status of those.
            status=200,
            headers={"content-type": answer.content_type},
            body=answer.body,
            started_us=now_us,
            first_byte_us=0,
            duration_us=0,
            # The request is in the log at its position; a copy here would only make it larger.
            exchange=None,
        )
