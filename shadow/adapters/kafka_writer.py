"""The idempotent producer with a bounded queue."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from shadow.adapters.kafka_client import RECORD_BYTES_MAX, Health, client, error_of, sentence
from shadow.errors import InvalidRecord, Unavailable
from shadow.ports import OnDelivery

log = logging.getLogger("shadow.kafka")


class KafkaWriter:
    """Implements `shadow.ports.LogWriter`. One thread at a time.

    A record stays queued until it is acknowledged, however long the broker is away; so what was accepted is
    delivered once, in order per partition, unless the process ends or `close` gives up on it.

    Args:
        properties: librdkafka's properties.
        queue_bytes_max: Bound of everything accepted and not yet acknowledged.
        is_embedded: Whether the broker is the embedded one, which reads no compressed batches.
        tells_success: Whether callbacks are called for what was delivered, and not for failures only.
    """

    def __init__(
        self, properties: Mapping[str, str], queue_bytes_max: int, *, is_embedded: bool, tells_success: bool = True
    ) -> None:
        self._properties: dict[str, Any] = {
            "linger.ms": "5",
            "compression.type": "none" if is_embedded else "lz4",
            "message.max.bytes": str(RECORD_BYTES_MAX),
            "message.timeout.ms": "0",
            **properties,
            "enable.idempotence": "true",
            "queue.buffering.max.kbytes": str(max(1, queue_bytes_max >> 10)),
            "queue.buffering.max.messages": "0",
            "delivery.report.only.error": not tells_success,
        }
        self._health = Health()
        self._producer = client(Producer, self._properties, self._health)
        self._done: deque[tuple[OnDelivery | None, KafkaError | None, Any]] = deque()

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
        """Queue one record; False where the queue is full.

        Raises:
            InvalidRecord: If the record is larger than `message.max.bytes`.
            Unavailable: If the producer cannot go on; it was replaced, and a later call may succeed.
        """
        done = self._done
        try:
            # Callbacks of the caller run after the client's, never inside them: producing there crashes the process.
            self._producer.produce(
                topic,
                value,
                key,
                partition,
                headers=list(headers.items()) if headers else None,
                on_delivery=self._note_failure
                if on_delivery is None
                else lambda error, message: done.append((on_delivery, error, message)),
            )
        except BufferError:
            return False
        except KafkaException as raised:
            error = error_of(raised)
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                allowed = self._properties["message.max.bytes"]
                size = len(key) + len(value)
                raise InvalidRecord(
                    f"a record of {size} bytes for {topic} is larger than the {allowed} allowed"
                ) from None
            if error.fatal() or error.code() == KafkaError._FATAL:
                self._replace()
            raise Unavailable(f"kafka could not take a record for {topic}/{partition}: {sentence(error)}") from raised
        return True

    def poll(self) -> None:
        """Serve delivery callbacks that are due; never waits."""
        self._producer.poll(0)
        self._serve()

    @property
    def waiting(self) -> int:
        """Records accepted that are neither acknowledged nor failed."""
        return len(self._producer)

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged; returns how many records are still queued."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            rest_s = max(0.0, deadline_s - time.monotonic())
            queued = self._producer.flush(min(rest_s, 0.2))
            self._serve()
            # A callback may have written again.
            if (queued == 0 and len(self._producer) == 0) or rest_s == 0.0:
                return len(self._producer)

    def close(self) -> None:
        """Give up on what is still queued; its callbacks are told so."""
        self._producer.purge()
        self._producer.flush(1.0)
        self._serve()

    def _note_failure(self, error: KafkaError | None, message: Any) -> None:
        """Of a record whose fate nobody asked for, only a failure is worth keeping."""
        if error is not None:
            self._done.append((None, error, message))

    def _serve(self) -> None:
        while self._done:
            on_delivery, error, message = self._done.popleft()
            if error is not None:
                if on_delivery is None:
                    log.warning(
                        "kafka did not take a record for %s/%d: %s",
                        message.topic(),
                        message.partition(),
                        sentence(error),
                    )
                else:
                    on_delivery(sentence(error), -1)
                if error.fatal():
                    self._replace()
            elif on_delivery is not None:
                on_delivery(None, message.offset())

    def _replace(self) -> None:
        """A fatal error ends a producer for good: its queue is given up, and another one takes its place."""
        log.warning("the producer had a fatal error and is replaced: %s", self._health.trouble)
        old, self._health = self._producer, Health()
        self._producer = client(Producer, self._properties, self._health)
        old.purge()
        old.flush(1.0)
