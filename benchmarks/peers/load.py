"""The records that every engine reads, and the topics they stand in."""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.comparator import RUN, SLICES, answer_of
from benchmarks.peers.job import MINUTE_US
from shadow.adapters.avro import encode
from shadow.records.answers import Answer
from shadow.records.requests import Origin
from shadow.stream.slice import Slicer

STEP_US: Final = 10_000
"""Time between two requests: a minute holds 6,000."""
PARTITIONS: Final = 2
AGO_US: Final = 120_000_000
"""How long ago the last request was made, so that every tile has ended when the comparators begin."""

# The client says at its end that it drops what nobody waits for.
_silent = logging.getLogger("benchmarks.peers.load.client")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


@dataclass(frozen=True, slots=True)
class Load:
    """Encoded answers, and what counting them must come to.

    Args:
        values: Answer records; number i belongs to partition i % 2.
        slices: In how many slices each of them counts.
        first_us: Time of the first request, at the beginning of a minute.
    """

    values: list[bytes]
    slices: array[int]
    first_us: int

    def increments(self, pairs: int) -> int:
        """Counts over all slices that the first so many pairs make."""
        return sum(self.slices[:pairs])

    def time_us(self, number: int) -> int:
        """Time of a request, microseconds since the Unix epoch."""
        return self.first_us + number * STEP_US

    def tiles(self, pairs: int) -> range:
        """Tiles, a minute each, that hold the first so many requests."""
        return range(self.first_us // MINUTE_US, self.time_us(pairs - 1) // MINUTE_US + 1)

    @property
    def mean_bytes(self) -> float:
        return sum(map(len, self.values)) / len(self.values)


def make_load(pairs: int) -> Load:
    """Encode so many answers, on two partitions, that end two minutes ago."""
    slicer = Slicer(SLICES)
    first_us = (time.time_ns() // 1000 - AGO_US - pairs * STEP_US) // MINUTE_US * MINUTE_US
    load = Load([], array("B"), first_us)
    for number in range(pairs):
        answer = _placed(answer_of(number), number, load.time_us(number))
        load.values.append(encode(answer))
        load.slices.append(len(slicer.slices_of(answer.exchange)))  # type: ignore[arg-type]
    return load


def _placed(answer: Answer, number: int, time_us: int) -> Answer:
    """An answer at its place in its partition, now and then worse than production's, so that all counts differ."""
    partition, offset = number % PARTITIONS, number // PARTITIONS
    assert answer.exchange is not None, "the benchmark's answers carry their exchange"
    body = answer.body
    if number % 7 == 0:
        body = body.replace(b"<answer>", b"(answer)")
    if number % 11 == 0:
        body = body.replace(b"part ", b"port ")
    origin = Origin(f"proxy-{partition}", 1, offset + 1, offset + 1, {})
    exchange = replace(answer.exchange, event_time_us=time_us, origin=origin)
    return replace(
        answer,
        request_partition=partition,
        request_offset=offset,
        request_time_us=time_us,
        started_us=time_us,
        body=body,
        exchange=exchange,
    )


def create_topics(bootstrap: str, names: Mapping[str, str]) -> None:
    """Create topics on two partitions; records keep the time that their producer gave them."""
    admin = AdminClient({"bootstrap.servers": bootstrap}, logger=_silent)
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names.values()]).values():
        future.result()


def fill(bootstrap: str, load: Load, pairs: int, *, answers: str, requests: str | None = None) -> None:
    """Write the first so many answers, and for the comparators' ticks the times of their requests."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 1_000_000})
    headers: dict[str, str | bytes | None] = {"run": RUN.encode()}
    for number in range(pairs):
        place: dict[str, Any] = {"partition": number % PARTITIONS, "timestamp": load.time_us(number) // 1000}
        producer.produce(answers, load.values[number], key=f"session-{number // 3}", headers=headers, **place)
        if requests is not None:
            producer.produce(requests, b"", **place)
        if number % 1000 == 0:
            producer.poll(0)
    left = producer.flush(60.0)
    if left:
        raise RuntimeError(f"Kafka did not take {left} of {pairs} records within a minute")
