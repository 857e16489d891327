"""Count what became of every live request, per partition, so that a loss is seen.

A request is counted as seen in the same step in which its fate is decided, so at every moment

    seen = sequence + sum(dropped, without kafka_down)

holds exactly, for the numbers in a record, in a report and at a scrape. Requests still in flight, and
copies still waiting in the proxy's queue, are not seen yet.

While the number of partitions is unknown, a copy cannot be handed to the producer. It is counted as
handed over and never acknowledged (a sequence number and `kafka_down`) under partition 0.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

QUEUE_FULL: Final = "queue_full"
TOO_LARGE: Final = "too_large"
ABORTED: Final = "aborted"
KAFKA_DOWN: Final = "kafka_down"
EXCLUDED: Final = "excluded"
REDACTION: Final = "redaction"
OFF: Final = "off"
SAMPLED_OUT: Final = "sampled_out"

REASONS: Final = (QUEUE_FULL, TOO_LARGE, ABORTED, KAFKA_DOWN, EXCLUDED, REDACTION, OFF, SAMPLED_OUT)


@dataclass(frozen=True, slots=True)
class Counts:
    """Cumulative counters of one partition; the words are those of `shadow.records.requests.Origin`."""

    sequence: int
    seen: int
    dropped: Mapping[str, int]


@dataclass(slots=True)
class _Partition:
    sequence: int = 0
    seen: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


class Accounts:
    """The counters of one process and epoch. Every method may be called from any thread.

    Only the thread that writes copies calls `next`, `handed` and `lost`, so a sequence number that was
    read by `next` is still free when the copy is handed over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[int, _Partition] = {}

    def drop(self, partition: int, reason: str) -> None:
        """Count a request that was not handed to the producer."""
        with self._lock:
            counts = self._of(partition)
            counts.seen += 1
            counts.dropped[reason] = counts.dropped.get(reason, 0) + 1

    def next(self, partition: int) -> Counts:
        """The counters as they will be once the next copy is handed over."""
        with self._lock:
            counts = self._of(partition)
            return Counts(counts.sequence + 1, counts.seen + 1, dict(counts.dropped))

    def handed(self, partition: int) -> None:
        """Count a copy that the producer took."""
        with self._lock:
            counts = self._of(partition)
            counts.sequence += 1
            counts.seen += 1

    def lost(self, partition: int) -> None:
        """Count a copy that got a sequence number and will never be acknowledged."""
        with self._lock:
            counts = self._of(partition)
            counts.sequence += 1
            counts.seen += 1
            counts.dropped[KAFKA_DOWN] = counts.dropped.get(KAFKA_DOWN, 0) + 1

    def unacknowledged(self, partition: int) -> None:
        """Count a copy, already handed over, whose delivery failed."""
        with self._lock:
            counts = self._of(partition)
            counts.dropped[KAFKA_DOWN] = counts.dropped.get(KAFKA_DOWN, 0) + 1

    def counts(self, partition: int) -> Counts:
        """The counters of one partition."""
        with self._lock:
            counts = self._of(partition)
            return Counts(counts.sequence, counts.seen, dict(counts.dropped))

    def snapshot(self) -> dict[int, Counts]:
        """The counters of every partition that saw a request, at one moment."""
        with self._lock:
            return {
                number: Counts(counts.sequence, counts.seen, dict(counts.dropped))
                for number, counts in sorted(self._partitions.items())
            }

    def _of(self, partition: int) -> _Partition:
        counts = self._partitions.get(partition)
        if counts is None:
            counts = self._partitions[partition] = _Partition()
        return counts
