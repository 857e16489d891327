"""The handles of the log in memory: writer, reader, admin and decision writer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shadow.errors import BrokenEvidence, InvalidRecord, Unavailable
from shadow.ports import OnDelivery, TopicState
from shadow.records.log import LogRecord

if TYPE_CHECKING:
    from shadow.adapters.memory_log import MemoryLog

FENCED_MAX: Final = 20
"""How often a decision is tried again when other writers fence it."""


@dataclass(frozen=True, slots=True)
class _Queued:
    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] | None
    on_delivery: OnDelivery | None

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value)


class MemoryWriter:
    """Implements `shadow.ports.LogWriter`; as with Kafka, only `poll` and `flush` free the queue."""

    def __init__(self, log: MemoryLog, queue_bytes_max: int, *, tells_success: bool = True) -> None:
        self._log = log
        self._queue_bytes_max = queue_bytes_max
        self._tells_success = tells_success
        self._bytes = 0
        self._queue: deque[_Queued] = deque()
        self._done: deque[tuple[_Queued, str | None, int]] = deque()

    def write(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes,
        value: bytes,
        headers: Mapping[str, bytes] | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> bool:
        """Queue one record; False where the queue is full."""
        queued = _Queued(topic, partition, key, value, headers, on_delivery)
        if queued.size > self._log.record_bytes_max:
            raise InvalidRecord(
                f"a record of {queued.size} bytes for {topic} is larger than the {self._log.record_bytes_max} allowed"
            )
        with self._log.changed:
            if self._bytes + queued.size > self._queue_bytes_max:
                return False
            self._bytes += queued.size
            self._queue.append(queued)
            self.send()
        return True

    def send(self) -> None:
        """Append what is queued, as far as the log is reachable."""
        with self._log.changed:
            while self._queue:
                queued = self._queue[0]
                try:
                    self._log.check_up()
                except Unavailable:
                    return
                self._queue.popleft()
                try:
                    record = self._log.append(queued.topic, queued.partition, queued.key, queued.value, queued.headers)
                    self._done.append((queued, None, record.offset))
                except Unavailable as error:
                    self._done.append((queued, str(error), -1))

    def poll(self) -> None:
        """Serve delivery callbacks that are due."""
        while True:
            with self._log.changed:
                if not self._done:
                    return
                queued, error, offset = self._done.popleft()
                self._bytes -= queued.size
            if queued.on_delivery is not None and (self._tells_success or error is not None):
                queued.on_delivery(error, offset)

    @property
    def waiting(self) -> int:
        """Records accepted whose fate `poll` has not told."""
        with self._log.changed:
            return len(self._queue) + len(self._done)

    def flush(self, timeout_s: float) -> int:
        """Serve callbacks and say how many records are still queued; waits no longer than it must."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.poll()
            with self._log.changed:
                rest_s = deadline_s - time.monotonic()
                if not self._queue or rest_s <= 0:
                    return len(self._queue)
                self._log.changed.wait(min(rest_s, 0.05))

    def close(self) -> None:
        """Forget what is still queued."""
        self.poll()
        self._log.forget(self)


class MemoryReader:
    """Implements `shadow.ports.LogReader`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._positions: dict[tuple[str, int], int] = {}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read exactly these (topic, partition) from these offsets on."""
        self._positions = dict(positions)

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        """The next records, in order per partition."""
        deadline_s = time.monotonic() + timeout_s
        with self._log.changed:
            while True:
                self._log.check_up()
                records: list[LogRecord] = []
                # Taken over as a whole, so that a hole in one partition loses nothing of the others.
                behind = {}
                for (topic, partition), position in self._positions.items():
                    more, behind[topic, partition] = self._log.fetch(
                        topic, partition, position, max_records - len(records)
                    )
                    records += more
                self._positions = behind
                rest_s = deadline_s - time.monotonic()
                if records or rest_s <= 0:
                    self._turn()
                    return records
                self._log.changed.wait(rest_s)

    def _turn(self) -> None:
        """Begin with another partition next time, so that a busy one does not starve the others."""
        if len(self._positions) > 1:
            first = next(iter(self._positions))
            self._positions[first] = self._positions.pop(first)

    def positions(self) -> Mapping[tuple[str, int], int]:
        """Next offset to read, by assigned (topic, partition)."""
        return dict(self._positions)

    def close(self) -> None:
        """Give the partitions up."""
        self._positions = {}


class MemoryAdmin:
    """Implements `shadow.ports.LogAdmin`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def create_topics(self, partitions_by_topic: Mapping[str, int], config: Mapping[str, Mapping[str, str]]) -> None:
        """Create those that do not exist."""
        for name, partitions in partitions_by_topic.items():
            self._log.create(name, partitions, config.get(name, {}))

    def topic(self, name: str) -> TopicState | None:
        """Partitions and settings, None where there is no such topic."""
        return self._log.state(name)

    def partitions(self, name: str) -> int | None:
        """Number of partitions, None where there is no such topic."""
        state = self._log.state(name)
        return None if state is None else state.partitions

    def ends(self, topic: str) -> list[tuple[int, int]]:
        """(first offset, offset behind the last record) of each partition."""
        state = self._log.state(topic)
        if state is None:
            raise Unavailable(f"the log has no topic {topic}")
        return [self._log.bounds(topic, partition) for partition in range(state.partitions)]

    def offset_at(self, topic: str, partition: int, time_us: int) -> int:
        """First offset appended at or after a time; the end of the partition where there is none."""
        found = self._log.first_at(topic, partition, time_us)
        return self._log.bounds(topic, partition)[1] if found is None else found

    def first_at(self, topic: str, partition: int, time_us: int) -> int | None:
        """First offset appended at or after a time; None where there is no such record."""
        return self._log.first_at(topic, partition, time_us)

    def read_at(self, topic: str, partition: int, offsets: Sequence[int]) -> list[LogRecord]:
        """The records at these offsets, in ascending order."""
        records = []
        for offset in sorted(set(offsets)):
            found, _ = self._log.fetch(topic, partition, offset, 1)
            if not found or found[0].offset != offset:
                raise BrokenEvidence(f"{topic}/{partition}: offset {offset} is not in the log")
            records += found
        return records

    def commit_group(self, group: str, topic: str, offsets: Sequence[int]) -> None:
        """Set a group's offsets, one per partition, before its first member joins."""
        with self._log.changed:
            self._log.check_up()
            self._log.group_of(group, topic).preset(dict(enumerate(offsets)))

    def delete_group(self, group: str) -> bool:
        """Delete a group and its offsets; False where there is none."""
        return self._log.drop_group(group)

    def close(self) -> None:
        """Nothing to close."""


class MemoryDecisionWriter:
    """Implements `shadow.ports.DecisionWriter`."""

    def __init__(self, log: MemoryLog, topic: str, transactional_id: str) -> None:
        self._log = log
        self._topic = topic
        self._transactional_id = transactional_id

    def read(self) -> Sequence[LogRecord]:
        """All committed records of the topic, in order."""
        first, end = self._log.bounds(self._topic, 0)
        return tuple(self._log.fetch(self._topic, 0, first, end - first)[0])

    def append(self, key: bytes, build: Callable[[Sequence[LogRecord]], bytes | None]) -> LogRecord | None:
        """Fence every other writer, read the topic to its end, and write what `build` makes of it, once."""
        for _ in range(FENCED_MAX):
            epoch = self._log.next_epoch(self._transactional_id)
            value = build(self.read())
            if value is None:
                return None
            record = self._log.commit_decision(self._transactional_id, epoch, self._topic, key, value)
            if record is not None:
                return record
        raise Unavailable(f"{self._topic}: other writers came first {FENCED_MAX} times; nothing was written")

    def close(self) -> None:
        """Nothing to close."""
