"""Reading assigned partitions from given offsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from shadow.adapters.kafka_client import (
    OUT_OF_RANGE,
    Health,
    asking,
    bounds_of,
    check_reachable,
    client,
    consume,
    consumer_properties,
    record_of,
    sentence,
)
from shadow.adapters.kafka_embedded import end_of
from shadow.errors import BrokenEvidence, ShadowError, Unavailable
from shadow.records.log import LogRecord


def check_embedded(
    properties: Mapping[str, str], consumer: Consumer, topic: str, partition: int, position: int
) -> None:
    """Refuse a position outside the embedded broker's log, which itself is silent there."""
    low, high = bounds_of(consumer, topic, partition)
    if position < low or (position > high and position > end_of(properties, topic, partition)):
        raise out_of_range(topic, partition, position)


def out_of_range(topic: str, partition: int, position: int) -> BrokenEvidence:
    """The log does not hold a position: retention passed it, or the log was lost."""
    return BrokenEvidence(f"{topic}/{partition}: offset {position} is not in the log (any more)")


def error_in(message: Any, position: int | None) -> ShadowError | None:
    """What a message that carries an error means; None where it means nothing to a caller."""
    error = message.error()
    if error.code() in OUT_OF_RANGE:
        return out_of_range(message.topic(), message.partition(), message.offset() if position is None else position)
    if error.code() in (KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED):
        return None
    if error.retriable() and not error.fatal():
        return None
    return Unavailable(f"kafka could not read {message.topic() or 'the log'}: {sentence(error)}")


class KafkaReader:
    """Implements `shadow.ports.LogReader`. One thread at a time."""

    def __init__(self, properties: Mapping[str, str], *, is_embedded: bool) -> None:
        self._properties = dict(properties)
        self._health = Health()
        self._consumer = client(Consumer, consumer_properties(properties, "shadow-reader"), self._health)
        self._is_embedded = is_embedded
        self._positions: dict[tuple[str, int], int] = {}
        self._trouble: ShadowError | None = None

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read exactly these (topic, partition) from these offsets on; also the way on after BrokenEvidence."""
        self._trouble = None
        self._positions = dict(positions)
        try:
            if self._is_embedded:
                for (topic, partition), position in positions.items():
                    check_embedded(self._properties, self._consumer, topic, partition, position)
        except BrokenEvidence as hole:
            self._trouble = hole
        # The offsets go with the assignment: seeking right after it is an error.
        asking(
            "assign partitions",
            lambda: self._consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in positions.items()]),
        )

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        """The next records, in order per partition; empty after `timeout_s`."""
        self._raise_trouble()
        records = []
        for message in asking("read", lambda: consume(self._consumer, max_records, timeout_s)):
            if message.error() is not None:
                place = (message.topic(), message.partition())
                self._trouble = self._trouble or error_in(message, self._positions.get(place))
                continue
            record = record_of(message)
            place = (record.topic, record.partition)
            if record.offset >= self._positions.get(place, record.offset + 1):
                self._positions[place] = record.offset + 1
                records.append(record)
        if not records:  # what was read before an error is given out first
            self._raise_trouble()
        check_reachable(self._consumer, self._health, has_records=bool(records))
        return records

    def _raise_trouble(self) -> None:
        trouble = self._trouble
        if trouble is not None:
            if not isinstance(trouble, BrokenEvidence):
                self._trouble = None
            raise trouble

    def positions(self) -> Mapping[tuple[str, int], int]:
        """Next offset to read, by assigned (topic, partition)."""
        return dict(self._positions)

    def close(self) -> None:
        """Give the partitions up."""
        self._positions = {}
        self._consumer.close()
