"""Read the graded pairs of one run out of `shadow-pairs`, which holds those of all runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from shadow.adapters.avro import decode
from shadow.desk.scan import bounds, scan
from shadow.errors import InvalidRecord
from shadow.ports import Log, LogAdmin
from shadow.records.decisions import Started
from shadow.records.log import LogRecord
from shadow.records.pairs import GradedPair
from shadow.training.seen import Seen

CLOCKS_US: Final = 600_000_000
"""How far the clock of whoever began the run may be ahead of the broker's: reading begins that much earlier."""


@dataclass(slots=True)
class Scanned:
    """What was read.

    Args:
        pairs: Graded pairs of the run.
        repeats: Records of pairs that were read before.
        unreadable: Records that may be of the run and cannot be read.
        partitions_cut: Partitions whose oldest records are gone, so that pairs of the run may be too.
    """

    pairs: int = 0
    repeats: int = 0
    unreadable: int = 0
    partitions_cut: int = 0

    def warnings(self, topic: str) -> list[str]:
        """What a user must know of it, one sentence each."""
        said = []
        if self.partitions_cut:
            said.append(
                f"the oldest records of {self.partitions_cut} partitions of {topic} are gone (retention), and the run "
                "may have begun before: some of its pairs may be missing here"
            )
        if self.unreadable:
            said.append(f"{self.unreadable:,} records of {topic} cannot be read and were passed over")
        return said


def read_pairs(log: Log, topic: str, started: Started, scanned: Scanned) -> Iterator[GradedPair]:
    """The graded pairs of a run up to now, each once, in the order of the log per partition.

    Args:
        scanned: Counts, as the pairs are taken.

    Raises:
        Unavailable: If the log does not answer, or the topic does not exist.
    """
    seen = Seen()
    with closing(log.admin()) as admin, closing(log.reader()) as reader:
        there = admin.ends(topic)
        begin = [_begin(log, admin, topic, each, first, started) for each, (first, _) in enumerate(there)]
        for (first, _), position in zip(there, begin, strict=True):
            scanned.partitions_cut += position == first > 0
        for record in scan(reader, topic, bounds(admin, topic, begin)):
            pair = _pair_in(record, started.run, scanned)
            if pair is None:
                continue
            if seen.add(pair):
                scanned.pairs += 1
                yield pair
            else:
                scanned.repeats += 1


def _begin(log: Log, admin: LogAdmin, topic: str, partition: int, first: int, started: Started) -> int:
    if not log.is_log_append_time:
        return first  # the embedded broker finds a time by reading every record, which is what is done here anyway
    return max(first, admin.offset_at(topic, partition, max(0, started.started_us - CLOCKS_US)))


def _pair_in(record: LogRecord, run: str, scanned: Scanned) -> GradedPair | None:
    """The pair of the run in a record; records that name another run are not decoded."""
    header = record.headers.get("run")
    if header is not None and header != run.encode():
        return None
    try:
        content = decode(record.value)
    except InvalidRecord:
        scanned.unreadable += 1
        return None
    return content if isinstance(content, GradedPair) and content.run == run else None
