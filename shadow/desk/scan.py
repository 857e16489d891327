"""Read a part of a topic, batch by batch, with a bound on the waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from shadow.errors import Unavailable
from shadow.ports import LogAdmin, LogReader
from shadow.records.log import LogRecord

READ_MAX: Final = 2000
READ_S: Final = 0.2
PATIENCE_S: Final = 30.0
"""How long a log may give nothing of what it says that it has."""


def bounds(admin: LogAdmin, topic: str, begin: Sequence[int]) -> list[tuple[int, int]]:
    """What is there of a topic from given offsets on, by partition: (first, behind the last).

    Raises:
        Unavailable: If a partition is gone.
    """
    ends = admin.ends(topic)
    if len(ends) < len(begin):
        raise Unavailable(f"{topic} has {len(ends)} partitions, and the run began with {len(begin)}")
    found = zip(begin, ends, strict=False)
    return [(max(position, first), max(position, first, end)) for position, (first, end) in found]


def scan(reader: LogReader, topic: str, ranges: Sequence[tuple[int, int]]) -> Iterator[LogRecord]:
    """The records of a topic within these ranges, one range a partition; in order per partition.

    Raises:
        Unavailable: If the log does not answer, or gave nothing for `PATIENCE_S`.
    """
    following = {partition: first for partition, (first, end) in enumerate(ranges) if first < end}
    if following:
        reader.assign({(topic, partition): first for partition, first in following.items()})
    deadline_s = time.monotonic() + PATIENCE_S
    while following:
        records = reader.read(READ_MAX, READ_S)
        for record in records:
            if record.partition not in following or record.offset >= ranges[record.partition][1]:
                continue
            yield record
            following[record.partition] = record.offset + 1
            if record.offset + 1 >= ranges[record.partition][1]:
                del following[record.partition]
        if records:
            deadline_s = time.monotonic() + PATIENCE_S
        elif time.monotonic() > deadline_s:
            places = ", ".join(f"{topic}/{partition} from {offset}" for partition, offset in following.items())
            raise Unavailable(f"the log gave nothing of {places} within {PATIENCE_S:g} s")
