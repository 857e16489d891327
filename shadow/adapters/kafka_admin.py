"""Topics, ends and single records of Kafka."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

# Documented names, which the package imports without exporting them for type checkers.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from shadow.adapters.kafka_client import (
    METADATA_S,
    RECONNECT,
    ClientLog,
    Health,
    asking,
    bounds_of,
    client,
    consume,
    consumer_properties,
    error_of,
    record_of,
    sentence,
    unavailable,
)
from shadow.adapters.kafka_embedded import EOF_PROPERTIES, end_behind
from shadow.adapters.kafka_reader import error_in, out_of_range
from shadow.errors import BrokenEvidence, Unavailable
from shadow.ports import TopicState
from shadow.records.log import LogRecord

NEAR: Final = 200
"""Offsets at most this far apart are read in one go: reading over the ones between is cheaper than beginning anew."""
SPREAD_S: Final = 3.0
"""Within this time every broker knows a topic that one of them knows."""


@dataclass(frozen=True, slots=True)
class _Times:
    """Offsets of one partition, and the newest time up to each."""

    offsets: list[int]
    newest_us: list[int]


class KafkaAdmin:
    """Implements `shadow.ports.LogAdmin`. Threads may share one; they take turns."""

    def __init__(self, properties: Mapping[str, str], *, is_embedded: bool) -> None:
        self._properties = dict(properties)
        self._is_embedded = is_embedded
        self._lock = threading.RLock()
        self._health = Health()
        # A fetch that waits at the end of one partition would hold up the next question for as long.
        merged = consumer_properties(properties, "shadow-admin") | EOF_PROPERTIES
        self._consumer = client(Consumer, merged, self._health)
        self._admin: AdminClient | None = None
        self._times_us: dict[tuple[str, int], _Times] = {}

    def create_topics(self, partitions_by_topic: Mapping[str, int], config: Mapping[str, Mapping[str, str]]) -> None:
        """Create those that do not exist, and wait until the broker knows them."""
        missing = {name: count for name, count in partitions_by_topic.items() if self._known(name) is None}
        if not missing:
            return
        replicas = 1 if self._is_embedded else -1
        topics = [
            NewTopic(name, num_partitions=count, replication_factor=replicas, config=dict(config.get(name, {})))
            for name, count in missing.items()
        ]
        futures = self._client().create_topics(topics, operation_timeout=METADATA_S, request_timeout=METADATA_S)
        for name, future in futures.items():
            self._created(name, future)
        deadline_s = time.monotonic() + METADATA_S
        while any(state is None or state.partitions == 0 for state in map(self._known, missing)):
            if time.monotonic() > deadline_s:
                raise Unavailable(
                    f"kafka does not know the topics {sorted(missing)} {METADATA_S:g} s after creating them"
                )
            time.sleep(0.05)

    def _created(self, name: str, future: Future[Any]) -> None:
        try:
            future.result(METADATA_S * 2)
        except KafkaException as raised:
            if error_of(raised).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise unavailable(f"create the topic {name}", raised) from raised
        except TimeoutError as error:
            raise Unavailable(f"kafka did not create the topic {name} within {METADATA_S * 2:g} s") from error

    def topic(self, name: str) -> TopicState | None:
        """Partitions and settings, None where there is no such topic."""
        state = self._known(name)
        return None if state is None else replace(state, config=self._settings(name))

    def partitions(self, name: str) -> int | None:
        """Number of partitions, None where there is no such topic; only metadata are asked for.

        A process that waits for Kafka asks this again and again. librdkafka 2.16.0 aborted one (`rd_kafka_enq_once_...
        refcnt > 0`) that asked for the settings of a topic as its broker came up.
        """
        state = self._known(name)
        return None if state is None else state.partitions

    def _known(self, name: str) -> TopicState | None:
        with self._lock:
            metadata = asking("list topics", lambda: self._consumer.list_topics(timeout=METADATA_S))
        found = metadata.topics.get(name)
        if found is None or (found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
            return None
        if found.error is not None:
            raise Unavailable(f"kafka could not describe the topic {name}: {sentence(found.error)}")
        replicas = min((len(partition.replicas) for partition in found.partitions.values()), default=0)
        return TopicState(len(found.partitions), {}, replicas)

    def _settings(self, name: str) -> dict[str, str]:
        """The broker's settings of a topic; empty where it does not tell (the right to ask may be missing)."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        futures = self._client().describe_configs([resource], request_timeout=METADATA_S)
        try:
            entries = futures[resource].result(METADATA_S * 2)
        except (KafkaException, TimeoutError):
            return {}
        return {key: entry.value for key, entry in entries.items() if entry.value is not None}

    def ends(self, topic: str) -> list[tuple[int, int]]:
        """(first offset, offset behind the last record) of each partition."""
        state = self._known(topic)
        deadline_s = time.monotonic() + SPREAD_S
        while state is None:
            # Any broker may be asked, and each learns of a new topic in its own time.
            if time.monotonic() > deadline_s:
                raise Unavailable(f"kafka has no topic {topic}")
            time.sleep(0.1)
            state = self._known(topic)
        return [self._bounds(topic, partition) for partition in range(state.partitions)]

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        with self._lock:
            low, high = bounds_of(self._consumer, topic, partition)
            if self._is_embedded:
                high = end_behind(self._consumer, topic, partition, low, high)
        return low, high

    def offset_at(self, topic: str, partition: int, time_us: int) -> int:
        """First offset appended at or after a time; the end of the partition where there is none.

        Kafka's times are milliseconds, so the first one not before `time_us` is asked for.
        """
        # The end comes first: what is appended between the two questions lies behind it, and is not skipped.
        end = self._bounds(topic, partition)[1]
        found = self.first_at(topic, partition, time_us)
        return end if found is None else found

    def first_at(self, topic: str, partition: int, time_us: int) -> int | None:
        """First offset appended at or after a time; None while no such record can be read."""
        if self._is_embedded:
            return self._offset_by_reading(topic, partition, time_us)
        place = TopicPartition(topic, partition, max(0, -(-time_us // 1000)))
        with self._lock:
            found = asking(
                f"find a time in {topic}/{partition}",
                lambda: self._consumer.offsets_for_times([place], timeout=METADATA_S),
            )[0]
        if found.error is not None:
            raise Unavailable(f"kafka could not find a time in {topic}/{partition}: {found.error}")
        return int(found.offset) if found.offset >= 0 else None

    def _offset_by_reading(self, topic: str, partition: int, time_us: int) -> int | None:
        """The same on the embedded broker, which answers every such question with 0: each record is read once."""
        with self._lock:
            times = self._times_us.setdefault((topic, partition), _Times([], []))
            first, end = self._bounds(topic, partition)
            begin = times.offsets[-1] + 1 if times.offsets else first
            if begin < end:
                for record in self.read_at(topic, partition, range(begin, end)):
                    times.offsets.append(record.offset)
                    # The producers' clocks differ, so a running maximum takes the place of the append time.
                    times.newest_us.append(max(record.time_us, times.newest_us[-1] if times.newest_us else 0))
            at = bisect_left(times.newest_us, time_us)
            return times.offsets[at] if at < len(times.offsets) else None

    def read_at(self, topic: str, partition: int, offsets: Sequence[int]) -> list[LogRecord]:
        """The records at these offsets, in ascending order."""
        wanted = sorted(set(offsets))
        if not wanted:
            return []
        low, high = self._bounds(topic, partition)
        for offset in (wanted[0], wanted[-1]):
            if not low <= offset < high:
                raise out_of_range(topic, partition, offset)
        records: list[LogRecord] = []
        with self._lock:
            try:
                for near in _ranges(wanted):
                    records += self._read_range(topic, partition, near)
            finally:
                self._consumer.unassign()
        return records

    def _read_range(self, topic: str, partition: int, wanted: Sequence[int]) -> list[LogRecord]:
        asking("read", lambda: self._consumer.assign([TopicPartition(topic, partition, wanted[0])]))
        records: list[LogRecord] = []
        deadline_s = time.monotonic() + METADATA_S
        while len(records) < len(wanted):
            messages = asking("read", lambda: consume(self._consumer, wanted[-1] - wanted[0] + 1, 0.5))
            for message in messages:
                expected = wanted[len(records)] if len(records) < len(wanted) else None
                if expected is None:
                    break
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    trouble = error_in(message, expected)
                    if trouble is not None:
                        raise trouble
                    continue
                # A later record, or the end, without the expected one: it is not there.
                if message.offset() > expected:
                    raise BrokenEvidence(f"{topic}/{partition}: offset {expected} is not in the log")
                if error is None and message.offset() == expected:
                    records.append(record_of(message))
            if messages:
                deadline_s = time.monotonic() + METADATA_S
            elif time.monotonic() > deadline_s:
                raise Unavailable(f"kafka did not give {topic}/{partition} from {wanted[0]} within {METADATA_S:g} s")
        return records

    def commit_group(self, group: str, topic: str, offsets: Sequence[int]) -> None:
        """Set a group's offsets, one per partition, before its first member joins."""
        consumer = client(Consumer, consumer_properties(self._properties, group), Health())
        places = [TopicPartition(topic, partition, offset) for partition, offset in enumerate(offsets)]
        try:
            done = asking(
                f"set the offsets of the group {group}",
                lambda: consumer.commit(offsets=places, asynchronous=False),
            )
            for place in done or ():
                if place.error is not None:
                    raise Unavailable(f"kafka could not set the offsets of the group {group}: {place.error}")
        finally:
            consumer.close()

    def delete_group(self, group: str) -> bool:
        """Delete a group and its offsets; False where there is none."""
        futures = self._client().delete_consumer_groups([group], request_timeout=METADATA_S)
        try:
            futures[group].result(METADATA_S * 2)
        except KafkaException as raised:
            if error_of(raised).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return False
            if error_of(raised).code() == KafkaError.NON_EMPTY_GROUP:
                raise Unavailable(
                    f"the group {group} has members; their processes run, or ended less than a session time-out ago"
                ) from raised
            raise unavailable(f"delete the group {group}", raised) from raised
        except TimeoutError as error:
            raise Unavailable(f"kafka did not delete the group {group} within {METADATA_S * 2:g} s") from error
        return True

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._consumer.close()
            self._admin = None

    def _client(self) -> AdminClient:
        with self._lock:
            if self._admin is None:
                self._admin = AdminClient({**RECONNECT, **self._properties}, logger=ClientLog())
            return self._admin


def _ranges(offsets: Sequence[int]) -> Iterator[list[int]]:
    """Cut ascending offsets where two neighbours are far apart."""
    current: list[int] = []
    for offset in offsets:
        if current and offset - current[-1] > NEAR:
            yield current
            current = []
        current.append(offset)
    if current:
        yield current
