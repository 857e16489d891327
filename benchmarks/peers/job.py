"""The job that every Python engine does with the same functions: decode, slice, grade on both sides, count.

    record ─► Avro row ─► slices of the request ─► six graders, production and candidate ─► (minute, slices, cells)

A slice's minute is one vector: pairs, then by grader both passed, production only, candidate only, neither. Slices and
graders are Shadow's own. Decoding is the plain Avro reader and nothing around it: no check that Shadow makes for its
own evidence is charged to another engine.

It imports only what each engine's environment has: neither Kafka nor Redis.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
from fastavro.schema import load_schema

from shadow.adapters.avro import MARKER, PREFIX_BYTES, fingerprint_of
from shadow.adapters.data import data_dir
from shadow.graders.graded import Graded
from shadow.graders.grader import build
from shadow.records.grades import FAILED, PASSED, GraderSpec
from shadow.records.slices import SliceSpec
from shadow.stream.slice import Slicer

MINUTE_US: Final = 60_000_000
CELL_BY_OUTCOMES: Final = {(PASSED, PASSED): 0, (PASSED, FAILED): 1, (FAILED, PASSED): 2, (FAILED, FAILED): 3}
"""Place in a grader's four counts by the outcomes of (production, candidate)."""

Counts = dict[tuple[int, str], list[int]]
"""Vector by (minute since the Unix epoch, slice)."""


class Pair(NamedTuple):
    """One answered request as it is counted.

    Args:
        time_us: Append time of the request, microseconds since the Unix epoch.
        slices: Slices that it counts in, `all` included.
        cells: Places of its slices' vectors that go up by one.
    """

    time_us: int
    slices: tuple[str, ...]
    cells: tuple[int, ...]


@dataclass(slots=True)
class Request:
    """What slices and graders read of a request."""

    path: str
    key: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """What one engine is told.

    Args:
        engine: Its name in the table.
        bootstrap: Address of the broker.
        redis: URL of the store, for the comparator only.
        topics: Topic names by `answers`, `requests`, `pairs`, `dead_letters`.
        pairs: Answer records in the topic, half of them in each of the two partitions.
        share: Pairs that this process will count: all, unless it has a partner.
        increments: Counts over all slices that the pairs make: a pair in three slices makes three.
        first_us: Time of the first request, at the beginning of a minute.
        directory: For state, snapshots and logs; empty at the start.
        result: Where the measured figures go.
        slices: The slices.
        graders: The graders.
        options: What distinguishes two runs of one engine.
    """

    engine: str
    bootstrap: str
    redis: str
    topics: Mapping[str, str]
    pairs: int
    share: int
    increments: int
    first_us: int
    directory: str
    result: str
    slices: list[dict[str, Any]]
    graders: list[dict[str, Any]]
    options: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> Work:
        """Read what the runner wrote."""
        return cls(**json.loads(Path(path).read_text()))


class Job:
    """The functions, made of the work's slices and graders."""

    def __init__(self, work: Work) -> None:
        schema_dir = data_dir("schemas")
        self._schema = load_schema(str(schema_dir / "shadow.Answer.avsc"))
        self._prefix = MARKER + fingerprint_of(self._schema)
        self._slicer = Slicer([SliceSpec(**spec) for spec in work.slices])
        # None of them asks a service, so each grades at once.
        self._graders: list[Any] = [
            build(GraderSpec(**{**spec, "slices": tuple(spec["slices"])})) for spec in work.graders
        ]
        self.width = 1 + 4 * len(self._graders)

    def pair(self, value: bytes | None) -> Pair | None:
        """Decode, slice and grade one record; None where it is no answer (the comparator's ticks are none)."""
        if value is None or not value.startswith(self._prefix):
            return None
        row: Any = fastavro.schemaless_reader(BytesIO(value[PREFIX_BYTES:]), self._schema)
        asked = row["exchange"]
        live = asked["live"]
        request: Any = Request(asked["path"], asked["key"], asked["headers"], asked["body"])
        production = _graded("production", request, live)
        candidate = _graded("candidate", request, row)
        cells = [0]
        place = 1
        for grader in self._graders:
            outcomes = (grader.grade(production, None).outcome, grader.grade(candidate, production).outcome)
            cell = CELL_BY_OUTCOMES.get(outcomes)
            if cell is not None:
                cells.append(place + cell)
            place += 4
        return Pair(row["request_time_us"], self._slicer.slices_of(request), tuple(cells))

    def new_vector(self) -> list[int]:
        """A slice's minute without a pair."""
        return [0] * self.width


def add(vector: list[int], cells: Iterable[int]) -> list[int]:
    """Count one pair in a slice's minute; returns the same vector."""
    for cell in cells:
        vector[cell] += 1
    return vector


def _graded(role: str, request: Any, row: Mapping[str, Any]) -> Graded:
    return Graded(
        role,
        request,
        row["outcome"],
        row["status"],
        row["headers"],
        row["body"],
        row["duration_us"],
        row["first_byte_us"],
    )
