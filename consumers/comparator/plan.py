"""What a comparator is told, and what it keeps of each partition that it owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shadow.records.decisions import Started
from shadow.records.tallies import ClosedTile
from shadow.stream.fold import Fold
from shadow.stream.state import FoldSpec

CHECKPOINT_S: Final = 1.0
READ_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class ComparatorPlan:
    """Everything that a comparator is told.

    Args:
        started: The run.
        spec: The fold's settings, for partition 0; the others differ by partition and offsets only.
        topics: Topic names by `requests`, `answers`, `pairs`, `dead_letters`.
        group: Consumer group that spreads the partitions over comparators.
        member: Stable name of this process in the group.
        writes_pairs: Whether graded pairs go to their topic.
        checkpoint_s: Least time between two checkpoints.
        read_max: Most records that one step reads.
    """

    started: Started
    spec: FoldSpec
    topics: Mapping[str, str]
    group: str
    member: str
    writes_pairs: bool = True
    checkpoint_s: float = CHECKPOINT_S
    read_max: int = READ_MAX


@dataclass(slots=True)
class Owned:
    """One partition that this comparator owns.

    Args:
        fold: Its fold.
        version: Version of the stored state; None where nothing is stored.
        closed: Tiles closed since the last checkpoint.
        saved_next: Where the stored state stands.
        dropped: Main tiles below this number are no longer stored.
        tick_sent: The newest tile whose tick was appended, and when.
        active_s: When the partition had its last record.
    """

    fold: Fold
    version: str | None
    closed: list[ClosedTile] = field(default_factory=list)
    saved_next: int = -1
    dropped: int = 0
    tick_sent: tuple[int, float] = (-1, 0.0)
    active_s: float = 0.0
