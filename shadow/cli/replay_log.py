"""Read a run's records again, side by side over its partitions, with a bound on what is held in memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from shadow.adapters.content import content_of, request_in
from shadow.errors import BrokenEvidence, Unavailable
from shadow.ports import LogReader
from shadow.records.answers import AnswersRecord
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest

READ_MAX: Final = 2000
READ_S: Final = 0.5
PATIENCE_S: Final = 60.0
"""How long a service may be silent before a replay gives up."""
CHUNK: Final = 64
"""Requests of a closing tile that are read in one go; the largest are 4 MiB each."""
NEAR: Final = 16
"""Requests that are read with a single one, since the next one looked up is near."""

T = TypeVar("T")


class Records(Protocol):
    """Ends and single records of topics: the part of `shadow.ports.LogAdmin` that a replay needs."""

    def ends(self, topic: str) -> list[tuple[int, int]]: ...

    def read_at(self, topic: str, partition: int, offsets: Sequence[int]) -> list[LogRecord]: ...

    def close(self) -> None: ...


class Source(Protocol):
    """Where the records come from: Kafka, the log in memory, or an archive."""

    def reader(self) -> LogReader: ...

    def admin(self) -> Records: ...


def patiently(call: Callable[[], T]) -> T:
    """Call a service until it answers, for at most `PATIENCE_S`; then its last trouble is raised."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except Unavailable:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(READ_S)


def ends_of(records: Records, topic: str, begin: Sequence[int]) -> list[int]:
    """Where each partition of a topic ends now.

    Args:
        begin: The run's first offset in each partition.

    Raises:
        BrokenEvidence: If a partition is gone, or does not hold the run's first offset any more.
    """
    bounds = patiently(lambda: records.ends(topic))
    if len(bounds) < len(begin):
        raise BrokenEvidence(f"{topic} has {len(bounds)} partitions, and the run began with {len(begin)}")
    for partition, (position, (first, end)) in enumerate(zip(begin, bounds, strict=False)):
        if position < first:
            raise BrokenEvidence(f"{topic}/{partition}: offsets {position} to {first - 1} are missing from the log")
        if position > end:
            raise BrokenEvidence(f"{topic}/{partition}: the log ends before {end}, and the run began at {position}")
    return [end for _, end in bounds[: len(begin)]]


class Reading:
    """A topic up to given ends. Partitions that are too far ahead can be told to rest.

    Args:
        reader: Not closed here.
        ends: Offset behind the last record to read, by partition.
    """

    def __init__(self, reader: LogReader, topic: str, begin: Sequence[int], ends: Sequence[int]) -> None:
        self._reader = reader
        self._topic = topic
        self._next = list(begin)
        self._ends = list(ends)
        self._resting: frozenset[int] = frozenset()
        self._assigned: frozenset[int] | None = None

    def is_over(self, partition: int) -> bool:
        """Whether a partition was read to its end."""
        return self._next[partition] >= self._ends[partition]

    @property
    def unfinished(self) -> list[int]:
        """Partitions that were not read to their ends."""
        return [partition for partition in range(len(self._ends)) if not self.is_over(partition)]

    def rest(self, partitions: set[int]) -> None:
        """Read these no further for now, all others on."""
        self._resting = frozenset(partitions)

    def records(self) -> list[LogRecord]:
        """The next records, in order per partition; empty where all were read.

        Raises:
            BrokenEvidence: If the log has a hole.
            Unavailable: If nothing came for `PATIENCE_S`.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while wanted := frozenset(self.unfinished) - self._resting:
            try:
                if wanted != self._assigned:
                    self._reader.assign({(self._topic, each): self._next[each] for each in sorted(wanted)})
                    self._assigned = wanted
                found = self._taken(self._reader.read(READ_MAX, READ_S))
            except Unavailable:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(READ_S)
                continue
            if found:
                return found
            if time.monotonic() > deadline_s:
                places = ", ".join(f"{self._topic}/{each} from {self._next[each]}" for each in sorted(wanted))
                raise Unavailable(f"the log gave nothing of {places} within {PATIENCE_S:g} s")
        return []

    def _taken(self, records: Sequence[LogRecord]) -> list[LogRecord]:
        found = []
        for record in records:
            if record.offset < self._next[record.partition] or self.is_over(record.partition):
                continue
            # Behind a hole, too: whoever folds the record sees that it is not the next one.
            self._next[record.partition] = record.offset + 1
            if record.offset < self._ends[record.partition]:
                found.append(record)
        return found


class RequestsByOffset:
    """Requests of one partition, read from the log when the fold looks them up.

    Args:
        put_aside: Told of a record that is no request, when it is looked up.
    """

    def __init__(
        self, records: Records, topic: str, partition: int, put_aside: Callable[[LogRecord, str], None]
    ) -> None:
        self._records = records
        self._topic = topic
        self._partition = partition
        self._put_aside = put_aside
        self._near: dict[int, LogRecord] = {}
        self._unreadable: deque[int] = deque(maxlen=NEAR * CHUNK)
        self._end = -1

    def __call__(self, offsets: Sequence[int]) -> Mapping[int, MirroredRequest | None]:
        """The requests at these offsets, each read when it is looked up."""
        return _Wanted(self, sorted(offsets))

    def read(self, offset: int, following: Sequence[int]) -> MirroredRequest | None:
        """One request, None where it cannot be read; those that are expected to be looked up next come with it."""
        if offset in self._unreadable:
            return None  # the fold asks again for what it did not get
        record = self._near.pop(offset, None)
        if record is None:
            self._near = {near.offset: near for near in self._read([offset, *following])}
            record = self._near.pop(offset)
        request = request_in(record)
        if request is None:
            self._unreadable.append(offset)
            self._put_aside(record, "the request cannot be read")
        return request

    def _read(self, offsets: Sequence[int]) -> list[LogRecord]:
        if len(offsets) > 1:
            return patiently(lambda: self._records.read_at(self._topic, self._partition, offsets))
        if offsets[0] + NEAR > self._end:
            self._end = patiently(lambda: self._records.ends(self._topic))[self._partition][1]
        near = range(offsets[0], max(offsets[0] + 1, min(offsets[0] + NEAR, self._end)))
        try:
            return patiently(lambda: self._records.read_at(self._topic, self._partition, near))
        except BrokenEvidence:
            # A hole among the neighbours is none in the evidence.
            return patiently(lambda: self._records.read_at(self._topic, self._partition, offsets))


def answers_by_offset(
    records: Records, topic: str, partition: int, run: str
) -> Callable[[Sequence[int]], list[tuple[LogRecord, AnswersRecord]]]:
    """Reads answers of one partition again, for comparisons that keep what waits long as offsets only."""

    def answers(offsets: Sequence[int]) -> list[tuple[LogRecord, AnswersRecord]]:
        found = patiently(lambda: records.read_at(topic, partition, sorted(offsets)))
        contents = ((record, content_of(record, run)) for record in found)
        return [(record, content) for record, content in contents if content is not None]

    return answers


class _Wanted(Mapping[int, MirroredRequest | None]):
    """Requests that are looked up in ascending order, so that a large tile is never in memory as a whole."""

    def __init__(self, requests: RequestsByOffset, offsets: Sequence[int]) -> None:
        self._requests = requests
        self._offsets = offsets
        self._index = {offset: index for index, offset in enumerate(offsets)}

    def __getitem__(self, offset: int) -> MirroredRequest | None:
        index = self._index[offset]
        return self._requests.read(offset, self._offsets[index + 1 : index + CHUNK])

    def __iter__(self) -> Iterator[int]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)
