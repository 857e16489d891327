"""A log in memory with the promises of Kafka's, and ways to break it in tests.

Time comes from the clock that it is given, so a test decides every append time. Many threads may share one log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shadow.adapters.cloud_events import headers_of_value
from shadow.adapters.memory_group import Group, MemoryGroup
from shadow.adapters.memory_handles import MemoryAdmin, MemoryDecisionWriter, MemoryReader, MemoryWriter
from shadow.errors import BrokenEvidence, Unavailable
from shadow.ports import TopicState
from shadow.records.log import LogRecord

RECORD_BYTES_MAX: Final = (4 << 20) + (256 << 10)


@dataclass(slots=True)
class _Partition:
    """Records by offset; a missing offset between `first` and `end` is a hole."""

    first: int = 0
    end: int = 0
    records: dict[int, LogRecord] = field(default_factory=dict)


@dataclass(slots=True)
class _Topic:
    partitions: list[_Partition]
    config: dict[str, str]


class MemoryLog:
    """Implements `shadow.ports.Log`.

    Args:
        now_us: Append time of the next record.
        is_log_append_time: What the log says of its time stamps.
        record_bytes_max: Largest key and value together.
    """

    def __init__(
        self, now_us: Callable[[], int], *, is_log_append_time: bool = True, record_bytes_max: int = RECORD_BYTES_MAX
    ) -> None:
        self.is_log_append_time = is_log_append_time
        self.record_bytes_max = record_bytes_max
        self.changed = threading.Condition(threading.RLock())
        self._now_us = now_us
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._epochs: dict[str, int] = {}
        self._writers: list[MemoryWriter] = []
        self._is_up = True

    def writer(self, *, queue_bytes_max: int = 64 << 20, tells_success: bool = True) -> MemoryWriter:
        """A writer of its own queue."""
        writer = MemoryWriter(self, queue_bytes_max, tells_success=tells_success)
        with self.changed:
            self._writers.append(writer)
        return writer

    def reader(self) -> MemoryReader:
        """A reader without partitions."""
        return MemoryReader(self)

    def group(
        self,
        topic: str,
        group: str,
        *,
        member: str,
        on_assigned: Callable[[list[int]], Mapping[int, int] | None],
        on_revoked: Callable[[list[int]], None],
    ) -> MemoryGroup:
        """Join a group; partitions come in the first `read`."""
        with self.changed:
            return MemoryGroup(self, topic, self.group_of(group, topic), member, on_assigned, on_revoked)

    def admin(self) -> MemoryAdmin:
        """Topics, ends and single records."""
        return MemoryAdmin(self)

    def decisions(self, topic: str, transactional_id: str) -> MemoryDecisionWriter:
        """A writer that fences those of the same id."""
        return MemoryDecisionWriter(self, topic, transactional_id)

    # What the handles share; all of it under `changed`.

    def check_up(self) -> None:
        """Raise Unavailable while the log is stopped."""
        if not self._is_up:
            raise Unavailable("the log in memory is stopped")

    def group_of(self, group: str, topic: str) -> Group:
        """The coordinator's view of a group on one topic."""
        return self._groups.setdefault((group, topic), Group(group))

    def drop_group(self, group: str) -> bool:
        """Forget a group without members; False where there is none."""
        with self.changed:
            self.check_up()
            known = [place for place in self._groups if place[0] == group]
            if any(self._groups[place].members for place in known):
                raise Unavailable(f"the group {group} has members; it cannot be deleted")
            for place in known:
                del self._groups[place]
            return bool(known)

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Create a topic that does not exist."""
        with self.changed:
            self.check_up()
            if name not in self._topics:
                self._topics[name] = _Topic([_Partition() for _ in range(partitions)], dict(config))

    def state(self, name: str) -> TopicState | None:
        """Partitions and settings of a topic."""
        with self.changed:
            self.check_up()
            topic = self._topics.get(name)
            return None if topic is None else TopicState(len(topic.partitions), dict(topic.config))

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset and the one behind the last record."""
        with self.changed:
            self.check_up()
            found = self._partition(topic, partition)
            return found.first, found.end

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes] | None
    ) -> LogRecord:
        """Append one record at the present time."""
        with self.changed:
            self.check_up()
            found = self._partition(topic, partition)
            record = LogRecord(topic, partition, found.end, self._now_us(), key, value, dict(headers or {}))
            found.records[found.end] = record
            found.end += 1
            self.changed.notify_all()
            return record

    def fetch(self, topic: str, partition: int, position: int, max_records: int) -> tuple[list[LogRecord], int]:
        """Records from a position on, and the position behind them.

        Raises:
            BrokenEvidence: If the position is outside the log.
        """
        with self.changed:
            self.check_up()
            found = self._partition(topic, partition)
            if not found.first <= position <= found.end:
                raise BrokenEvidence(
                    f"{topic}/{partition}: offset {position} is not in the log,"
                    f" which begins at {found.first} and ends before {found.end}"
                )
            records: list[LogRecord] = []
            while position < found.end and len(records) < max_records:
                record = found.records.get(position)
                if record is not None:
                    records.append(record)
                position += 1
            return records, position

    def first_at(self, topic: str, partition: int, time_us: int) -> int | None:
        """First offset appended at or after a time; None where there is no such record."""
        with self.changed:
            self.check_up()
            found = self._partition(topic, partition)
            return next((offset for offset, r in found.records.items() if r.time_us >= time_us), None)

    def next_epoch(self, transactional_id: str) -> int:
        """Fence the writers of an id that have an earlier epoch."""
        with self.changed:
            self.check_up()
            self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
            return self._epochs[transactional_id]

    def commit_decision(
        self, transactional_id: str, epoch: int, topic: str, key: bytes, value: bytes
    ) -> LogRecord | None:
        """Append a decision and its transaction's marker, which takes an offset; None where the epoch is fenced."""
        with self.changed:
            self.check_up()
            if self._epochs.get(transactional_id) != epoch:
                return None
            record = self.append(topic, 0, key, value, headers_of_value(topic, value))
            self._partition(topic, 0).end += 1
            return record

    def _partition(self, topic: str, partition: int) -> _Partition:
        found = self._topics.get(topic)
        if found is None or not 0 <= partition < len(found.partitions):
            raise Unavailable(f"the log has no {topic}/{partition}")
        return found.partitions[partition]

    # Ways to break it.

    def truncate(self, topic: str, partition: int, before: int) -> None:
        """Lose the records before an offset, as retention does."""
        with self.changed:
            found = self._partition(topic, partition)
            found.first = min(max(found.first, before), found.end)
            for offset in [offset for offset in found.records if offset < found.first]:
                del found.records[offset]

    def punch(self, topic: str, partition: int, offset: int) -> None:
        """Lose one record in the middle; its offset stays empty."""
        with self.changed:
            self._partition(topic, partition).records.pop(offset, None)

    def evict(self, group: str, topic: str, member: str) -> None:
        """Give a member's partitions to the others, as when it is silent for longer than its session."""
        with self.changed:
            self.group_of(group, topic).leave(member)
            self.changed.notify_all()

    def stop(self) -> None:
        """Be unreachable until `start`; writers keep what they have queued."""
        with self.changed:
            self._is_up = False

    def start(self) -> None:
        """Be reachable again; queued records are appended."""
        with self.changed:
            self._is_up = True
            for writer in self._writers:
                writer.send()

    def load(self, records: Iterable[LogRecord]) -> None:
        """Take over records of another log with their offsets and times; topics must exist."""
        with self.changed:
            for record in records:
                found = self._partition(record.topic, record.partition)
                if record.offset < found.end:
                    raise ValueError(f"{record.topic}/{record.partition} already ends at {found.end}: {record.offset}")
                if not found.records:
                    found.first = record.offset
                found.records[record.offset] = record
                found.end = record.offset + 1
            self.changed.notify_all()

    def forget(self, writer: MemoryWriter) -> None:
        """A writer was closed."""
        with self.changed:
            self._writers = [other for other in self._writers if other is not writer]
