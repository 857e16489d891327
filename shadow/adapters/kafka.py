"""Kafka, and what speaks its protocol, as a `shadow.ports.Log`.

Promises that rest on the properties set here, whatever the user sets beside them: producers are idempotent and
their queue is bounded; no reader commits by itself or skips a hole; what librdkafka has to say goes to the
logger `shadow.kafka`, never to the terminal. Threads do not share a handle, except the admin's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shadow.adapters.kafka_admin import KafkaAdmin
from shadow.adapters.kafka_decisions import KafkaDecisionWriter
from shadow.adapters.kafka_group import KafkaGroup
from shadow.adapters.kafka_reader import KafkaReader
from shadow.adapters.kafka_writer import KafkaWriter


class KafkaLog:
    """A factory of handles on one cluster. Nothing is connected before a handle is used.

    Args:
        properties: librdkafka's properties, `bootstrap.servers` at least.
        is_embedded: Whether the broker is the embedded one: it stamps records with the producer's time, and its
            high watermark counts batches.
    """

    def __init__(self, properties: Mapping[str, str], *, is_embedded: bool = False) -> None:
        self._properties = {name: str(value) for name, value in properties.items()}
        self._is_embedded = is_embedded
        self.is_log_append_time = not is_embedded

    def writer(self, *, queue_bytes_max: int = 64 << 20, tells_success: bool = True) -> KafkaWriter:
        """An idempotent producer with a bounded queue."""
        return KafkaWriter(
            self._properties, queue_bytes_max, is_embedded=self._is_embedded, tells_success=tells_success
        )

    def reader(self) -> KafkaReader:
        """A reader without partitions."""
        return KafkaReader(self._properties, is_embedded=self._is_embedded)

    def group(
        self,
        topic: str,
        group: str,
        *,
        member: str,
        on_assigned: Callable[[list[int]], Mapping[int, int] | None],
        on_revoked: Callable[[list[int]], None],
    ) -> KafkaGroup:
        """Join a group; partitions come while reading."""
        return KafkaGroup(
            self._properties, topic, group, member, on_assigned, on_revoked, is_embedded=self._is_embedded
        )

    def admin(self) -> KafkaAdmin:
        """Topics, ends and single records."""
        return KafkaAdmin(self._properties, is_embedded=self._is_embedded)

    def decisions(self, topic: str, transactional_id: str) -> KafkaDecisionWriter:
        """The transactional writer; all writers of a topic share the id."""
        return KafkaDecisionWriter(self._properties, topic, transactional_id, is_embedded=self._is_embedded)
