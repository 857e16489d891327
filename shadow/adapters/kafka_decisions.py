"""The one transactional writer of `shadow-decisions`.

Every writer of the topic shares one transactional id, and a write is, by number here and in the body:

 1. `init_transactions` of a new producer: fences and aborts whoever was writing.
 2. Read the topic to its end. Whoever is fenced can add nothing any more, so what was read is all there is.
 3. `build` looks at all of it, and says what to write, or that there is nothing to write.
 4. Produce and commit.
 5. On any doubt the producer is thrown away, and after a random time all of it starts over. Where the doubt was
    whether the commit went through, step 2 shows it: the record is there, and is not written again.

The random times are needed: writers that retry at once fence each other for ever.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from shadow.adapters.cloud_events import headers_of_value
from shadow.adapters.kafka_client import (
    METADATA_S,
    RECORD_BYTES_MAX,
    Health,
    asking,
    bounds_of,
    client,
    consume,
    consumer_properties,
    error_of,
    record_of,
    sentence,
)
from shadow.adapters.kafka_reader import error_in
from shadow.errors import InvalidRecord, Unavailable
from shadow.records.log import LogRecord

log = logging.getLogger("shadow.kafka")

END_PROPERTIES: Final = {"enable.partition.eof": "true", "fetch.wait.max.ms": "50"}
TRANSACTION_MS: Final = 5000
PATIENCE_S: Final = 60.0
WAIT_MAX_S: Final = 8.0
WAIT_FIRST_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A record whose commit is in doubt; it can only stand at or behind `end`."""

    end: int
    key: bytes
    value: bytes


class KafkaDecisionWriter:
    """Implements `shadow.ports.DecisionWriter`. One thread at a time."""

    def __init__(self, properties: Mapping[str, str], topic: str, transactional_id: str, *, is_embedded: bool) -> None:
        self._topic = topic
        self._is_embedded = is_embedded
        self._producer_properties: dict[str, Any] = {
            "message.max.bytes": str(RECORD_BYTES_MAX),
            **properties,
            "linger.ms": "0",
            "enable.idempotence": "true",
            "transactional.id": transactional_id,
            "transaction.timeout.ms": str(TRANSACTION_MS),
            "message.timeout.ms": str(TRANSACTION_MS),
        }
        # The end is only told once a fetch has waited in vain, and a rollback must not wait with it.
        merged = consumer_properties(properties, "shadow-decisions") | END_PROPERTIES
        self._consumer = client(Consumer, merged, Health())
        self._records: list[LogRecord] = []
        self._position: int | None = None

    def read(self) -> Sequence[LogRecord]:
        """All committed records of the topic, in order; nobody is fenced.

        Raises:
            Unavailable: If Kafka does not answer.
        """
        self._read_to_end()
        return tuple(self._records)

    def append(self, key: bytes, build: Callable[[Sequence[LogRecord]], bytes | None]) -> LogRecord | None:
        """Fence every other writer, read the topic to its end, and write what `build` makes of it, once.

        `build` may be called several times, each time with all records.

        Raises:
            InvalidRecord: If the value is larger than the producer may send.
            Unavailable: If Kafka does not answer, or others came first for a minute. What `build` would have written
                may be in the topic where the last commit was in doubt; the next `append` shows it.
        """
        asking(f"reach {self._topic}", lambda: self._consumer.list_topics(self._topic, timeout=METADATA_S))
        deadline_s = time.monotonic() + PATIENCE_S
        doubts: list[_Attempt] = []
        tries = 0
        while True:
            try:
                return self._try(key, build, doubts)
            except KafkaException as raised:
                trouble = sentence(error_of(raised))
            except SystemError as raised:
                # The client calls `on_delivery` with the exception of being fenced set already, and Python ends that.
                trouble = f"fenced while the record was acknowledged ({raised})"
            except Unavailable as error:
                trouble = str(error)
            # 5. Start over with a new producer, after a random time.
            tries += 1
            wait_s = random.uniform(0, min(WAIT_MAX_S, WAIT_FIRST_S * 2.0**tries))
            if time.monotonic() + wait_s > deadline_s:
                raise Unavailable(f"{self._topic}: nothing could be decided in {tries} tries: {trouble}")
            log.info("%s: try %d failed, starting over: %s", self._topic, tries, trouble)
            time.sleep(wait_s)

    def _try(
        self, key: bytes, build: Callable[[Sequence[LogRecord]], bytes | None], doubts: list[_Attempt]
    ) -> LogRecord | None:
        health = Health()
        producer = client(Producer, self._producer_properties, health)
        try:
            # 1. Fence.
            producer.init_transactions(METADATA_S)
            # 2. Read to the end.
            end = self._read_to_end()
            for attempt in doubts:
                for record in self._records:
                    if record.offset >= attempt.end and (record.key, record.value) == (attempt.key, attempt.value):
                        return record
            # 3. Decide.
            value = build(tuple(self._records))
            if value is None:
                return None
            # 4. Write it, once.
            return self._commit(producer, key, value, end, doubts)
        finally:
            producer.purge()
            producer.poll(0)

    def _commit(self, producer: Producer, key: bytes, value: bytes, end: int, doubts: list[_Attempt]) -> LogRecord:
        delivered: list[Any] = []
        failed: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, message: Any) -> None:
            if error is None:
                delivered.append(message)
            else:
                failed.append(error)

        headers = headers_of_value(self._topic, value)
        producer.begin_transaction()
        try:
            producer.produce(self._topic, value, key, 0, headers=list(headers.items()), on_delivery=on_delivery)
        except KafkaException as raised:
            if error_of(raised).code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise InvalidRecord(f"a decision of {len(value)} bytes is larger than the producer may send") from None
            raise
        doubts.append(_Attempt(end, key, value))
        producer.commit_transaction(METADATA_S)
        if failed or not delivered:
            raise Unavailable(sentence(failed[0]) if failed else "the record was not acknowledged")
        record = record_of(delivered[0])
        return LogRecord(self._topic, 0, record.offset, record.time_us, key, value, headers)

    def _read_to_end(self) -> int:
        """Take over what was written since the last call; returns the end of the topic."""
        low, end = bounds_of(self._consumer, self._topic, 0)
        if self._position is None or not low <= self._position <= end:
            self._records, self._position = [], low
        asking("read", lambda: self._consumer.assign([TopicPartition(self._topic, 0, self._position or 0)]))
        deadline_s = time.monotonic() + METADATA_S
        while self._position < end:
            if time.monotonic() > deadline_s:
                raise Unavailable(f"{self._topic} could not be read beyond offset {self._position} of {end}")
            for message in asking("read", lambda: consume(self._consumer, 1000, 0.5)):
                deadline_s = time.monotonic() + METADATA_S
                error = message.error()
                if error is None:
                    self._records.append(record_of(message))
                    self._position = message.offset() + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    # The transaction's own marks take offsets and are not given out; only the end shows them.
                    self._position = max(self._position, message.offset())
                else:
                    trouble = error_in(message, self._position)
                    if trouble is not None:
                        self._position = None
                        raise Unavailable(str(trouble))
        return int(end)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
