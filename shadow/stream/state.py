"""What the fold of one partition is told, remembers and causes; and how it is put into a snapshot.

Pure. The snapshot has one field per tile, so that a checkpoint writes only what changed, and a format
number: a state of another format is not read but rebuilt from the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shadow.errors import InvalidRecord
from shadow.records.grades import Ask
from shadow.records.pairs import GradedPair
from shadow.records.requests import MirroredRequest
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.account import Accounts
from shadow.stream.pair import Decided, Waiting
from shadow.stream.tally import REFERENCE_ANSWERS, References
from shadow.stream.tile import Tiles
from shadow.usage import Price

FORMAT: Final = 2
"""Format of the snapshot."""

RequestsAt = Callable[[Sequence[int]], Mapping[int, MirroredRequest | None]]
"""Reads requests of this partition by offset; None for one that cannot be decoded."""


def slot_of(run: str, partition: int) -> str:
    """Slot of a partition's state in the store."""
    return f"{run}/{partition}"


@dataclass(frozen=True, slots=True)
class FoldSpec:
    """What one partition's fold must know of its run.

    Args:
        run: Run id.
        partition: Partition of both topics.
        partitions: Number of partitions of the run.
        tile_us: Length of a tile.
        first_tile: The run's first tile.
        deadline_us: Evidence deadline of the comparison.
        requests_from: First request offset of the run.
        answers_from: First answers offset of the run.
        candidate_rate: Share of sampling keys whose requests the candidate is asked to answer.
        price: Price by role, for answers whose cost no worker states.
    """

    run: str
    partition: int
    partitions: int
    tile_us: int
    first_tile: int
    deadline_us: int
    requests_from: int
    answers_from: int
    candidate_rate: float = 1.0
    price: Mapping[str, Price] = field(default_factory=dict)

    @property
    def reference_share(self) -> int:
        """Production answers of this partition that make a latency reference (see `References`)."""
        return -(-REFERENCE_ANSWERS // self.partitions)


@dataclass(frozen=True, slots=True)
class AskNow:
    """A question that the owner must put, after it has appended the mark, and whose grade it must append."""

    request_offset: int
    key: str
    grader: str
    role: str
    ask: Ask
    is_marked: bool


@dataclass(slots=True)
class Effects:
    """What one record caused; the caller carries it out."""

    closed: list[ClosedTile] = field(default_factory=list)
    pairs: list[GradedPair] = field(default_factory=list)
    asks: list[AskNow] = field(default_factory=list)


@dataclass(slots=True)
class FoldState:
    """Everything that the fold remembers of one partition.

    Args:
        next: Offset of the first answers record not yet folded.
        counters: `duplicate`, `late`, `grades_repeated`, `dead_letters` and `records`, beside the tiles.
        changed: Tiles whose waiting requests or tally changed since the last snapshot.
    """

    next: int
    tiles: Tiles
    decided: Decided
    references: References
    accounts: Accounts = field(default_factory=Accounts)
    waiting: dict[int, Waiting] = field(default_factory=dict)
    tallies: dict[int, Tally] = field(default_factory=dict)
    counters: dict[str, int] = field(
        default_factory=lambda: {"records": 0, "duplicate": 0, "late": 0, "grades_repeated": 0, "dead_letters": 0}
    )
    changed: set[int] = field(default_factory=set)


def fields_from_state(state: FoldState, *, only_changed: bool) -> tuple[dict[str, bytes], list[str]]:
    """Snapshot of a state, as fields to set and fields to delete.

    Args:
        state: The state; its `changed` is emptied by the caller once the snapshot is stored.
        only_changed: Write only the tiles that changed.
    """
    tiles = state.tiles
    head = {
        "format": FORMAT,
        "next": state.next,
        "watermark_us": tiles.watermark_us,
        "oldest": tiles.oldest,
        "ends": tiles.ends,
        "base": state.decided.base,
        "above": sorted(state.decided.above),
        "frozen_us": state.references.frozen_us,
        "sample_us": state.references.sample_us,
        "accounts": state.accounts.to_json(),
        "counters": state.counters,
    }
    fields = {"head": _dump(head)}
    by_tile: dict[int, list[Any]] = {}
    for request, waiting in sorted(state.waiting.items()):
        by_tile.setdefault(waiting.tile, []).append([request, waiting.offsets])
    everything = set(by_tile) | set(state.tallies)
    dropped = []
    for tile in state.changed | (set() if only_changed else everything):
        for name, value in (
            (f"waiting:{tile}", _dump(by_tile[tile]) if tile in by_tile else None),
            (f"tally:{tile}", state.tallies[tile].to_bytes() if tile in state.tallies else None),
        ):
            if value is None:
                dropped.append(name)
            else:
                fields[name] = value
    return fields, dropped


def state_from_fields(fields: Mapping[str, bytes], spec: FoldSpec) -> FoldState:
    """Read a snapshot; the waiting requests still lack their records (see `Fold.restore`).

    Raises:
        InvalidRecord: If the snapshot has another format; then it is rebuilt from the log.
    """
    if "head" not in fields:
        raise InvalidRecord("the snapshot has no head")
    head = json.loads(fields["head"])
    if head.get("format") != FORMAT:
        raise InvalidRecord(f"the snapshot has format {head.get('format')!r}, this version reads {FORMAT}")
    state = FoldState(
        next=head["next"],
        tiles=Tiles(spec.tile_us, spec.deadline_us, head["oldest"], head["ends"], head["watermark_us"]),
        decided=Decided(head["base"], set(head["above"])),
        references=References(spec.reference_share, head["frozen_us"], head["sample_us"]),
        accounts=Accounts.from_json(head["accounts"]),
        counters=head["counters"],
    )
    for name, value in fields.items():
        kind, _, tile = name.partition(":")
        if kind == "tally":
            state.tallies[int(tile)] = Tally.from_bytes(value)
        elif kind == "waiting":
            for request, offsets in json.loads(value):
                state.waiting[request] = Waiting(int(tile), offsets)
    return state


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
