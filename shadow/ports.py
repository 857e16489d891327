"""What the processes need from the outside world, as protocols.

Each port has a real adapter and a fake under `shadow/adapters`; one contract suite (tests/contracts)
runs on both. Calls block; a service that does not answer raises `Unavailable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shadow.records.log import LogRecord

OnDelivery = Callable[[str | None, int], None]
"""Called once per record with (error or None, offset; -1 where it failed), from `poll` or `flush`."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """What the broker says of a topic.

    Args:
        partitions: Number of partitions.
        config: The broker's settings of the topic by name, as text; empty where it does not tell.
        replicas: Least number of replicas of a partition; 0 where it is not known.
    """

    partitions: int
    config: Mapping[str, str]
    replicas: int = 0


class LogWriter(Protocol):
    """An idempotent producer with a bounded queue; it never blocks on the network."""

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
        """Queue one record; False where the queue is full, and then `on_delivery` is not called.

        Raises:
            InvalidRecord: If the record is larger than the producer may send.
        """
        ...

    def poll(self) -> None:
        """Serve delivery callbacks that are due; never waits."""
        ...

    @property
    def waiting(self) -> int:
        """Records accepted that are neither acknowledged nor failed, as far as `poll` has seen."""
        ...

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged; returns how many records are still queued."""
        ...

    def close(self) -> None: ...


class LogReader(Protocol):
    """Reads assigned partitions from given offsets. Nothing is committed."""

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read exactly these (topic, partition) from these offsets on."""
        ...

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        """The next records, in order per partition; empty after `timeout_s`.

        Raises:
            BrokenEvidence: If an assigned offset is not in the log any more.
            Unavailable: If the broker says that it cannot serve.
        """
        ...

    def positions(self) -> Mapping[tuple[str, int], int]:
        """Next offset to read, by assigned (topic, partition)."""
        ...

    def close(self) -> None: ...


class LogGroup(Protocol):
    """A member of a consumer group: partitions come and go, offsets are committed by the caller."""

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        """The next records; rebalance callbacks given at creation run inside this call."""
        ...

    def pause(self, partitions: Iterable[int]) -> None: ...

    def resume(self, partitions: Iterable[int]) -> None: ...

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading an owned partition from this offset; records already fetched of it are dropped."""
        ...

    def commit(self, offsets: Mapping[int, int], notes: Mapping[int, str] | None = None) -> None:
        """Commit next-to-read offsets by partition. Raises Unavailable.

        Args:
            notes: What is kept beside an offset, at most 4,096 bytes each; a partition without one loses its note.
        """
        ...

    def committed(self, partition: int) -> tuple[int, str] | None:
        """What the group committed last, offset and note; None where nothing was. Raises Unavailable."""
        ...

    def close(self) -> None: ...


class LogAdmin(Protocol):
    """Topics, ends and single records."""

    def create_topics(self, partitions_by_topic: Mapping[str, int], config: Mapping[str, Mapping[str, str]]) -> None:
        """Create those that do not exist; an existing one is left as it is."""
        ...

    def topic(self, name: str) -> TopicState | None: ...

    def partitions(self, name: str) -> int | None:
        """Number of partitions of a topic, None where there is none; asks for less than `topic`."""
        ...

    def ends(self, topic: str) -> list[tuple[int, int]]:
        """(first offset, offset behind the last record) of each partition."""
        ...

    def offset_at(self, topic: str, partition: int, time_us: int) -> int:
        """First offset appended at or after a time; the end of the partition where there is none."""
        ...

    def first_at(self, topic: str, partition: int, time_us: int) -> int | None:
        """First offset appended at or after a time; None while no such record can be read.

        Records before one that can be read can be read too. Behind the last one there may be others that were appended
        earlier than now and are not replicated yet: `offset_at` says nothing of these.
        """
        ...

    def read_at(self, topic: str, partition: int, offsets: Sequence[int]) -> list[LogRecord]:
        """The records at these offsets, in ascending order.

        Raises:
            BrokenEvidence: If one of them is not in the log.
        """
        ...

    def commit_group(self, group: str, topic: str, offsets: Sequence[int]) -> None:
        """Set a group's offsets, one per partition, before its first member joins."""
        ...

    def delete_group(self, group: str) -> bool:
        """Delete a group and its offsets; False where there is none. Raises Unavailable, also while it has members."""
        ...

    def close(self) -> None: ...


class DecisionWriter(Protocol):
    """The one transactional writer of `shadow-decisions`, and its reader."""

    def read(self) -> Sequence[LogRecord]:
        """All committed records of the topic, in order; nobody is fenced. Raises Unavailable."""
        ...

    def append(self, key: bytes, build: Callable[[Sequence[LogRecord]], bytes | None]) -> LogRecord | None:
        """Fence every other writer, read the topic to its end, and write what `build` makes of it, once.

        Args:
            build: Gets all records of the topic in order; returns the value to write, or None to write nothing.

        Returns:
            The record written, or None.
        """
        ...

    def close(self) -> None: ...


class Log(Protocol):
    """A Kafka-compatible log, as a factory of the handles above.

    `is_log_append_time` is False for a broker that ignores LogAppendTime (the embedded one).
    """

    is_log_append_time: bool

    def writer(self, *, queue_bytes_max: int = 64 << 20, tells_success: bool = True) -> LogWriter:
        """A producer of its own.

        Args:
            tells_success: False: `on_delivery` is called where a delivery failed only, which is cheaper by far.
        """
        ...

    def reader(self) -> LogReader: ...

    def group(
        self,
        topic: str,
        group: str,
        *,
        member: str,
        on_assigned: Callable[[list[int]], Mapping[int, int] | None],
        on_revoked: Callable[[list[int]], None],
    ) -> LogGroup:
        """Join a group (cooperative-sticky).

        Args:
            on_assigned: Gets the partitions that were added; returns the offsets to read them from, or
                None for the committed ones (the end, where nothing was committed).
            on_revoked: Gets the partitions that were taken away, also when they were lost.
        """
        ...

    def admin(self) -> LogAdmin: ...

    def decisions(self, topic: str, transactional_id: str) -> DecisionWriter: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One atomic change of a slot: first everything is set, then deleted.

    Args:
        version: Unique version that the slot has afterwards (a fresh UUID, never reused).
        state: Fields of the state to set.
        dropped: Fields of the state to delete.
        tiles: Closed tiles to add, by name (`shadow.records.comparisons.tile_name`).
        dropped_tiles: Names of closed tiles to delete.
    """

    version: str
    state: Mapping[str, bytes]
    dropped: Sequence[str] = ()
    tiles: Mapping[str, bytes] | None = None
    dropped_tiles: Sequence[str] = ()


class Store(Protocol):
    """Snapshots by slot (`run/partition`, or `run` for the gate's), changed by compare-and-set only."""

    def load(self, slot: str) -> tuple[str, dict[str, bytes]] | None:
        """Version and state of a slot; None where there is none."""
        ...

    def swap(self, slot: str, expected: str | None, change: Change) -> None:
        """Apply a change if the slot still has the expected version (None: the slot must not exist).

        An answer that got lost is resolved by reading the version back: the new one means applied, the
        expected one means written again.

        Raises:
            Refused: If the slot has another version; nothing was written.
            Unavailable: If the store cannot be reached, or refuses writes; nothing is known.
        """
        ...

    def field(self, slot: str, name: str) -> bytes | None:
        """One field of a slot's state; None where it is absent."""
        ...

    def tiles(self, slot: str, names: Sequence[str]) -> list[bytes | None]:
        """Closed tiles by name, None where absent."""
        ...

    def tile_names(self, slot: str) -> list[str]:
        """Names of the closed tiles in the slot, in no order."""
        ...

    def purge(self, slot: str) -> bool:
        """Delete everything of a slot, readable or not; False where there was nothing."""
        ...

    def problems(self) -> list[str]:
        """What is wrong with the store's own settings (eviction policy), one sentence each."""
        ...

    def close(self) -> None: ...


class Clock(Protocol):
    """Wall clock, for the processes only; no link and no rule reads one."""

    def now_us(self) -> int: ...
