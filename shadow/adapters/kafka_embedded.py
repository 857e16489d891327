"""What only the embedded broker needs.

Its high watermark is the *first* offset of the last batch plus one, and it is silent where a reader stands
behind the end. The offset of the end-of-partition event is right, so the end is found by reading the last batch.
(Batches of one record would make the watermark right too, but a broker in memory keeps an object for each: at
13,000 of them one core was busy with 200 requests a second.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, TopicPartition

from shadow.adapters.kafka_client import METADATA_S, Health, asking, bounds_of, client, consume, consumer_properties
from shadow.errors import Unavailable

EOF_PROPERTIES = {"enable.partition.eof": "true", "fetch.wait.max.ms": "10"}


def end_behind(consumer: Consumer, topic: str, partition: int, low: int, high: int) -> int:
    """The offset behind the last record.

    Args:
        consumer: One that reports ends of partitions; it is left without partitions.
        low: First offset of the partition.
        high: The broker's high watermark.
    """
    if high <= low:
        return high
    asking("read", lambda: consumer.assign([TopicPartition(topic, partition, high - 1)]))
    deadline_s = time.monotonic() + METADATA_S
    try:
        while time.monotonic() < deadline_s:
            for message in asking("read", lambda: consume(consumer, 10_000, 0.2)):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return int(message.offset())
    finally:
        consumer.unassign()
    raise Unavailable(f"kafka did not say where {topic}/{partition} ends within {METADATA_S:g} s")


def end_of(properties: Mapping[str, str], topic: str, partition: int) -> int:
    """The same with a consumer of its own, for readers whose own does not report ends."""
    consumer = client(Consumer, consumer_properties(properties, "shadow-ends") | EOF_PROPERTIES, Health())
    try:
        low, high = bounds_of(consumer, topic, partition)
        return end_behind(consumer, topic, partition, low, high)
    finally:
        consumer.close()
