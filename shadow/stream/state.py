"""What the fold of one partition is told, remembers and causes; and how it is put into a snapshot.

Pure. The snapshot has one field per tile, so that a checkpoint writes only what changed, and a format
number: a state of another format is not read but rebuilt from the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final

from shadow.errors import InvalidRecord
from shadow.graders.grader import Grader
from shadow.records.answers import AnswersRecord
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name, tile_of_name
from shadow.records.grades import Ask
from shadow.records.log import LogRecord
from shadow.records.pairs import GradedPair
from shadow.records.policy import Agreement, LiveStep
from shadow.records.requests import MirroredRequest
from shadow.records.tallies import CLASSES, ClosedTile, Tally
from shadow.stream.account import Accounts
from shadow.stream.pair import Offsets, Undecided, Waiting
from shadow.stream.tally import REFERENCE_ANSWERS, References, Tallier
from shadow.stream.tile import Tiles
from shadow.usage import Price

FORMAT: Final = 5
"""Format of the snapshot."""

VOTES_KEPT: Final = 4096
"""Requests whose vote was counted that are remembered: a repeat among them counts nothing."""

DROPPED: Final = "dropped"
"""Field beside a partition's state, kept by its owner: main tiles below this number are no longer in the store."""
FOLDED: Final = "folded"
"""Field of the gate's state: the last main tile that it has folded."""

RequestsAt = Callable[[Sequence[int]], Mapping[int, MirroredRequest | None]]
"""Reads requests of this partition by offset; None for one that cannot be decoded."""

AnswersAt = Callable[[Sequence[int]], Sequence[tuple[LogRecord, AnswersRecord]]]
"""Reads records of this partition's answers by offset, ascending."""


def slot_of(run: str, partition: int) -> str:
    """Slot of a partition's state in the store."""
    return f"{run}/{partition}"


@dataclass(frozen=True, slots=True)
class Counting:
    """How the pairs of one comparison are graded and counted.

    Args:
        graders: Graders of both answers.
        tallier: What to count of their grades.
        agreements: Rules on the disagreement of candidate and baseline with production.
        repeated: Graders of the baseline's answer beside production's; they ask nobody.
        repeated_in: Slices in which these count, by grader.
    """

    graders: tuple[Grader, ...]
    tallier: Tallier
    agreements: tuple[Agreement, ...] = ()
    repeated: tuple[Grader, ...] = ()
    repeated_in: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoldSpec:
    """What one partition's fold must know of its run.

    Args:
        run: Run id.
        partition: Partition of both topics.
        partitions: Number of partitions of the run.
        tile_us: Length of a tile.
        first_tile: The run's first tile.
        deadlines_us: Evidence deadline by comparison, `candidate-production` first.
        requests_from: First request offset of the run.
        answers_from: First answers offset of the run.
        rates: Share of the sampling keys for which a role is asked; 1 where it is not named.
        price: Price by role, for answers whose cost no worker states.
        steps: Steps in which the candidate serves live requests, by the id of the decision that begins each.
        stage_slices: Slices of these steps' stages that some rule names.
    """

    run: str
    partition: int
    partitions: int
    tile_us: int
    first_tile: int
    deadlines_us: Mapping[str, int]
    requests_from: int
    answers_from: int
    rates: Mapping[str, float] = field(default_factory=dict)
    price: Mapping[str, Price] = field(default_factory=dict)
    steps: Mapping[str, LiveStep] = field(default_factory=dict)
    stage_slices: frozenset[str] = frozenset()

    @property
    def reference_share(self) -> int:
        """Production answers of this partition that make a latency reference (see `References`)."""
        return -(-REFERENCE_ANSWERS // self.partitions)

    @property
    def slow(self) -> frozenset[str]:
        """Comparisons with a longer deadline than the main one: what waits only for these is kept as offsets."""
        main_us = self.deadlines_us[CANDIDATE_PRODUCTION]
        return frozenset(name for name, deadline_us in self.deadlines_us.items() if deadline_us > main_us)


@dataclass(frozen=True, slots=True)
class AskNow:
    """A question that the owner must put, after it has appended the mark, and whose grade it must append."""

    request_offset: int
    comparison: str
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
class Compared:
    """State of one comparison.

    Args:
        tiles: Its ticks and tiles.
        references: Its latency references.
        tallies: Tallies of its open tiles.
        open: Request offsets that were met and that it has not decided.
        closed: Requests of slice `all` in its closed tiles, by class.
        decided: All requests that it has decided, by class; those of a raised quota are not in `all`.
        changed: Tiles whose tally changed since the last snapshot.
    """

    tiles: Tiles
    references: References
    tallies: dict[int, Tally] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    closed: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    decided: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    changed: set[int] = field(default_factory=set)
    _order: list[int] = field(default_factory=list)

    def wait_for(self, request: int) -> None:
        """A request that was met is not decided yet."""
        self.open.add(request)
        heappush(self._order, request)

    def first_undecided(self, met: Offsets) -> int:
        """The first request offset that is not decided: all before it are."""
        while self._order and self._order[0] not in self.open:
            heappop(self._order)
        return min(met.base, self._order[0]) if self._order else met.base

    def tally_of(self, tile: int) -> tuple[int, Tally]:
        """The open tile in which a request counts: its own, else the oldest that is still open."""
        tile = max(tile, self.tiles.oldest)
        self.changed.add(tile)
        tally = self.tallies.get(tile)
        if tally is None:
            tally = self.tallies[tile] = Tally()
        return tile, tally


@dataclass(slots=True)
class Votes:
    """The requests whose negative vote was counted last, oldest first, in a field of the snapshot of their own.

    Args:
        requests: Their ids, as the keys of an ordered dictionary.
        is_changed: Whether they changed since the last snapshot.
    """

    requests: dict[str, None] = field(default_factory=dict)
    is_changed: bool = False

    def add(self, request_id: str) -> bool:
        """Remember a request; False where it is known already. Beyond `VOTES_KEPT` the oldest is forgotten."""
        if request_id in self.requests:
            return False
        self.requests[request_id] = None
        if len(self.requests) > VOTES_KEPT:
            del self.requests[next(iter(self.requests))]
        self.is_changed = True
        return True


@dataclass(slots=True)
class FoldState:
    """Everything that the fold remembers of one partition.

    Args:
        next: Offset of the first answers record not yet folded.
        met: Request offsets of which a record was read, or that were found missing.
        compared: State by comparison.
        watermark_us: Running maximum of append times.
        waiting: Requests that some comparison has not decided, by offset.
        counters: `records`, `duplicate`, `late`, `grades_repeated`, `feedback_repeated` and `dead_letters`, beside the
            tiles.
        votes: Ids of the last requests whose negative vote was counted.
        by_tile: Offsets of the waiting requests, by tile.
        changed: Tiles whose waiting requests changed since the last snapshot.
    """

    next: int
    met: Offsets
    compared: dict[str, Compared]
    watermark_us: int = 0
    accounts: Accounts = field(default_factory=Accounts)
    waiting: dict[int, Waiting] = field(default_factory=dict)
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("records", "duplicate", "late", "grades_repeated", "feedback_repeated", "dead_letters"), 0
        )
    )
    votes: Votes = field(default_factory=Votes)
    by_tile: dict[int, set[int]] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)

    def keep(self, request: int, waiting: Waiting) -> None:
        """A request waits for the comparisons that have not decided it."""
        self.waiting[request] = waiting
        self.by_tile.setdefault(waiting.tile, set()).add(request)
        self.changed.add(waiting.tile)
        for name in waiting.undecided:
            self.compared[name].wait_for(request)

    def forget(self, request: int) -> None:
        """A request, which may have waited, is decided by every comparison."""
        waiting = self.waiting.pop(request, None)
        if waiting is not None:
            self.changed.add(waiting.tile)
            requests = self.by_tile[waiting.tile]
            requests.remove(request)
            if not requests:
                del self.by_tile[waiting.tile]

    @property
    def main(self) -> Compared:
        """State of the main comparison."""
        return self.compared[CANDIDATE_PRODUCTION]

    def unaccounted(self, name: str, requests_from: int) -> int:
        """Requests that were met and that a comparison neither waits for nor has decided once: 0, or a bug."""
        compared = self.compared[name]
        met = self.met.base - requests_from + len(self.met.above)
        return met - len(compared.open) - sum(compared.decided)

    def stored(self) -> None:
        """The state as it is now stands in the store."""
        self.changed.clear()
        self.votes.is_changed = False
        for compared in self.compared.values():
            compared.changed.clear()


def fields_from_state(state: FoldState, *, only_changed: bool) -> tuple[dict[str, bytes], list[str]]:
    """Snapshot of a state, as fields to set and fields to delete.

    Args:
        state: The state; the caller says `stored()` once the snapshot is stored.
        only_changed: Write only the tiles that changed.
    """
    head = {
        "format": FORMAT,
        "next": state.next,
        "watermark_us": state.watermark_us,
        "met": [state.met.base, sorted(state.met.above)],
        "comparisons": {name: _compared_json(compared, state.met) for name, compared in state.compared.items()},
        "accounts": state.accounts.to_json(),
        "counters": state.counters,
    }
    fields, dropped = {"head": _dump(head)}, []
    if state.votes.is_changed or not only_changed:
        fields["votes"] = _dump(list(state.votes.requests))
    for tile in state.changed if only_changed else state.by_tile:
        if tile in state.by_tile:
            requests = sorted(state.by_tile[tile])
            fields[f"waiting:{tile}"] = _dump([_waiting_json(each, state.waiting[each]) for each in requests])
        else:
            dropped.append(f"waiting:{tile}")
    for name, compared in state.compared.items():
        for tile in compared.changed if only_changed else compared.tallies:
            place = f"tally:{tile_name(tile, name)}"
            if tile in compared.tallies:
                fields[place] = compared.tallies[tile].to_bytes()
            else:
                dropped.append(place)
    return fields, dropped


def _compared_json(compared: Compared, met: Offsets) -> dict[str, Any]:
    return {
        "oldest": compared.tiles.oldest,
        "ends": compared.tiles.ends,
        "base": compared.first_undecided(met),
        "closed": compared.closed,
        "decided": compared.decided,
        "frozen_us": compared.references.frozen_us,
        "sample_us": compared.references.sample_us,
    }


def _waiting_json(request: int, waiting: Waiting) -> list[Any]:
    """Where one comparison only waits, and needs its records in memory, the rest goes without saying."""
    if list(waiting.undecided) == [CANDIDATE_PRODUCTION] and not waiting.is_parked:
        return [request, waiting.offsets]
    return [request, waiting.offsets, list(waiting.undecided), waiting.is_parked]


def state_from_fields(fields: Mapping[str, bytes], spec: FoldSpec) -> FoldState:
    """Read a snapshot; the waiting requests still lack their records (see `Fold.restore`).

    Raises:
        InvalidRecord: If the snapshot has another format or other comparisons; then it is rebuilt from the log.
    """
    if "head" not in fields:
        raise InvalidRecord("the snapshot has no head")
    head = json.loads(fields["head"])
    if head.get("format") != FORMAT:
        raise InvalidRecord(f"the snapshot has format {head.get('format')!r}, this version reads {FORMAT}")
    if head["comparisons"].keys() != spec.deadlines_us.keys():
        raise InvalidRecord(f"the snapshot holds {', '.join(head['comparisons'])}, not {', '.join(spec.deadlines_us)}")
    state = FoldState(
        next=head["next"],
        met=Offsets(head["met"][0], set(head["met"][1])),
        # In the order of the spec, in which the fold goes through them.
        compared={name: _compared_from(head["comparisons"][name], name, spec) for name in spec.deadlines_us},
        watermark_us=head["watermark_us"],
        accounts=Accounts.from_json(head["accounts"]),
        counters=head["counters"],
        votes=Votes(dict.fromkeys(json.loads(fields.get("votes", b"[]")))),
    )
    for name, value in fields.items():
        kind, _, tile = name.partition(":")
        if kind == "tally":
            number, comparison = tile_of_name(tile)
            state.compared[comparison].tallies[number] = Tally.from_bytes(value)
        elif kind == "waiting":
            for request, offsets, *rest in json.loads(value):
                names, is_parked = rest or ([CANDIDATE_PRODUCTION], False)
                undecided = {each: Undecided() for each in names}
                state.keep(request, Waiting(int(tile), offsets, undecided, is_parked=is_parked))
    state.changed.clear()
    return state


def _compared_from(found: dict[str, Any], name: str, spec: FoldSpec) -> Compared:
    return Compared(
        tiles=Tiles(spec.tile_us, spec.deadlines_us[name], found["oldest"], found["ends"]),
        references=References(spec.reference_share, found["frozen_us"], found["sample_us"]),
        closed=found["closed"],
        decided=found["decided"],
    )


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
