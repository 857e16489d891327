"""What the comparator writes to the log: graded pairs, recorded grades and their marks, ticks, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shadow.adapters.avro import encode
from shadow.adapters.logs import Repeated
from shadow.ports import Clock, LogWriter
from shadow.records.answers import RecordedGrade, Tick
from shadow.records.dead_letters import DeadLetter
from shadow.records.grades import Grade
from shadow.records.log import LogRecord
from shadow.records.pairs import GradedPair
from shadow.stream.state import AskNow

VALUE_MAX: Final = 64 * 1024


class Output:
    """Writes the comparator's records, each to the partition that it is about.

    Args:
        writer: Closed by `close`.
        run: Run id; every record of the answers and pairs topics carries it as header.
        topics: Topic names by `answers`, `pairs`, `dead_letters`.
        process: Who puts a record aside.
        trouble: Told while the producer's queue is full.
    """

    def __init__(
        self, writer: LogWriter, run: str, topics: Mapping[str, str], process: str, clock: Clock, trouble: Repeated
    ) -> None:
        self._writer = writer
        self._run = run
        self._run_header = {"run": run.encode()}
        self._topics = topics
        self._process = process
        self._clock = clock
        self._trouble = trouble

    def pair(self, partition: int, pair: GradedPair) -> None:
        """Write a graded pair."""
        self._write(self._topics["pairs"], partition, pair.key.encode(), encode(pair), self._run_header)

    def grade(self, partition: int, ask: AskNow, grade: Grade) -> None:
        """Append a recorded grade, or the mark that it was asked for, beside the pair's answers."""
        record = RecordedGrade(
            run=self._run,
            request_offset=ask.request_offset,
            comparison=ask.comparison,
            grader=ask.grader,
            role=ask.role,
            outcome=grade.outcome,
            score=grade.score,
            reason=grade.reason,
        )
        self._answers(partition, ask.key.encode(), record)

    def tick(self, partition: int, tick: Tick) -> None:
        """Append a tick."""
        self._answers(partition, b"", tick)

    def put_aside(self, record: LogRecord, error: str) -> None:
        """Write a record that cannot be used to the dead letters, keyed by its position."""
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=error,
            process=self._process,
            time_us=self._clock.now_us(),
            value=(record.value or b"")[:VALUE_MAX],
        )
        key = f"{record.topic}/{record.partition}/{record.offset}".encode()
        self._write(self._topics["dead_letters"], 0, key, encode(letter))

    def poll(self) -> None:
        """Serve delivery callbacks."""
        self._writer.poll()

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged; returns how many records are not."""
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Write out what can be written in a few seconds."""
        self._writer.flush(5.0)
        self._writer.close()

    def _answers(self, partition: int, key: bytes, record: RecordedGrade | Tick) -> None:
        self._write(self._topics["answers"], partition, key, encode(record), self._run_header)

    def _write(
        self, topic: str, partition: int, key: bytes, value: bytes, headers: Mapping[str, bytes] | None = None
    ) -> None:
        """Queue a record; a full queue is waited for, since it empties or Kafka is away and nothing can go on."""
        while not self._writer.write(topic, partition, key=key, value=value, headers=headers):
            self._trouble.warning("kafka: the producer's queue is full; waiting for the broker")
            self._writer.flush(1.0)
