"""Memory does not grow with the run: records are read side by side, folded and let go of."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from shadow.adapters.avro import encode
from shadow.cli.replay_log import Reading
from shadow.cli.replay_run import Replay, ReplayPlan
from shadow.records.answers import Tick
from shadow.records.log import LogRecord
from tests.replay.world import TILE_US, TOPICS, exchange_of, settings_of, tree_of
from tests.stream.builders import answer


def test_a_partition_far_ahead_rests(world):
    """
    What is not to be read now is not assigned, and is read later from where it was left.
    """
    topic, ends = TOPICS["answers"], [end for _, end in world.log.admin().ends(TOPICS["answers"])]
    reading = Reading(world.log.reader(), topic, world.started.answers_from, ends)
    reading.rest({0})
    found = reading.records()
    while not reading.is_over(1):
        found += reading.records()
    assert {1} == {record.partition for record in found}
    reading.rest(set())
    while records := reading.records():
        found += records
    for partition, begin in enumerate(world.started.answers_from):
        assert list(range(begin, ends[partition])) == [r.offset for r in found if r.partition == partition]


class Endless:
    """A log of one partition whose records are made when they are read, so that nothing but the replay holds them."""

    def __init__(self, run: str, records: int) -> None:
        self.run = run
        self.end = records
        self._position = 0
        self._value = b""

    def reader(self) -> Endless:
        return self

    def admin(self) -> Endless:
        return self

    def ends(self, topic: str) -> list[tuple[int, int]]:
        return [(0, self.end)]

    def read_at(self, topic: str, partition: int, offsets: Sequence[int]) -> list[LogRecord]:
        raise AssertionError("every record carries its request")

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        (self._position,) = positions.values()

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        begin, self._position = self._position, min(self._position + 100, self.end)
        return [self._record(offset) for offset in range(begin, self._position)]

    def _record(self, offset: int) -> LogRecord:
        tile, place = divmod(offset, 50)
        if place == 49:
            content: Any = Tick(self.run, tile, 49 * (tile + 1))
            return LogRecord("answers", 0, offset, (tile + 1) * TILE_US, b"", encode(content), {})
        number = tile * 49 + place
        exchange = exchange_of(number + 1, 0, random.Random(offset))
        body = orjson.dumps({"even": number % 2 == 0, "text": "x" * 2000})
        # Few keys, since up to 65,536 of them are remembered with their cells.
        exchange = replace(exchange, key=f"session-{number % 20}", body=body)
        time_us = tile * TILE_US + place
        content = answer(exchange, number, time_us, run=self.run)
        return LogRecord("answers", 0, offset, time_us, b"", encode(content), {})

    def positions(self) -> Mapping[tuple[str, int], int]:
        return {("answers", 0): self._position}

    def close(self) -> None:
        pass


def test_memory_does_not_grow_with_the_run(world):
    """
    Four times as many records take no more memory: what was folded is let go of.
    """
    started = replace(world.started, answers_from=(0,), requests_from=(0,))

    def peak_bytes(records: int) -> int:
        tracemalloc.start()
        plan = ReplayPlan(settings_of(tree_of()), started, "answers", "requests", first=0)
        found = Replay(plan, Endless(started.run, records)).run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (records, "") == (found.records, found.broken)
        return peak

    peak_bytes(200)  # what is built once
    short, long = peak_bytes(1000), peak_bytes(4000)
    assert long < short * 1.3, f"{short:,} bytes for 1,000 records and {long:,} for 4,000"
