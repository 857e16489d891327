"""Compare what a replay recomputed with what was stored and decided, down to the statistic that differs."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from shadow.errors import Unavailable
from shadow.gate.run import RunState, state_from_bytes
from shadow.ports import Store
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_numbers, tile_of_name
from shadow.records.decisions import Decision, Started
from shadow.records.policy import Policy
from shadow.records.tallies import ClosedTile, Key, Tally
from shadow.stream.state import slot_of

NAMED_MAX: Final = 100
"""Differences that are named; the others are counted."""
BATCH: Final = 64
"""Closed tiles of a partition that are compared in one go."""
SHOWN_MAX: Final = 160


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was.

    Args:
        where: `redis`, `gate`, `decision` or `archive`.
        partition: None for what was added up over all of them.
        key: Kind and name of the statistic, or the field of a decision.
        was: What stands there, as text.
        now: What the log gives, as text.
    """

    where: str
    tile: int | None
    key: str
    was: str
    now: str
    partition: int | None = None
    comparison: str = CANDIDATE_PRODUCTION
    slice: str | None = None

    @property
    def sentence(self) -> str:
        """It in one line."""
        place = [self.where]
        place += [f"partition {self.partition}"] if self.partition is not None else []
        place += [f"tile {self.tile}"] if self.tile is not None else []
        place += [self.comparison] if self.comparison != CANDIDATE_PRODUCTION else []
        place += [f"slice {self.slice}"] if self.slice is not None else []
        return f"{', '.join([*place, self.key])}: {self.was} there, {self.now} by the log"


@dataclass(slots=True)
class Comparison:
    """What was compared, and what differs.

    Args:
        compared: How many of each kind of thing were compared.
        differences: The first `NAMED_MAX` of `count`.
        notes: What could not be compared, and why.
    """

    compared: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    count: int = 0
    notes: list[str] = field(default_factory=list)

    def saw(self, kind: str, count: int = 1) -> None:
        """So many things were compared."""
        self.compared[kind] = self.compared.get(kind, 0) + count

    def add(self, difference: Difference) -> None:
        """Something differs."""
        self.count += 1
        if len(self.differences) < NAMED_MAX:
            self.differences.append(difference)


class StoreComparison:
    """Compares closed tiles and the gate's state with what the store holds, while they are recomputed.

    What the store does not hold (it was emptied, or has not got so far) is no difference; it is a derived snapshot.
    A tile that is missing between two that are there is one. A store that goes away ends the comparison with a note.

    Args:
        first: Tiles before it are not compared.
        into: Where differences go.
    """

    def __init__(self, store: Store, started: Started, policy: Policy, first: int, into: Comparison) -> None:
        self._store = store
        self._started = started
        self._first = first
        self._into = into
        self._waiting: dict[int, deque[ClosedTile]] = {p: deque() for p in range(len(started.answers_from))}
        self._held: dict[int, tuple[int, int]] = {}
        self._gate: RunState | None = None
        self._is_away = False
        with self._noting():
            self._begin(policy)

    def _begin(self, policy: Policy) -> None:
        """Look at the store before the log is read: what it holds then, the log must give."""
        run = self._started.run
        stored = self._store.load(run)
        if stored is not None and "gate" in stored[1]:
            try:
                self._gate = state_from_bytes(stored[1]["gate"], policy)
            except ValueError as error:
                self._into.notes.append(f"redis: the gate's state is not compared: {error}")
        for partition in self._waiting:
            numbers = tile_numbers(self._store.tile_names(slot_of(run, partition)))
            if numbers:
                self._held[partition] = (numbers[0], numbers[-1])
        if not self._held:
            self._into.notes.append("redis holds no closed tile of this run, so none is compared")

    @property
    def gate_folded(self) -> int | None:
        """Last tile that the gate had folded when the replay began; None where its state is not known."""
        return None if self._gate is None else self._gate.folded

    def closed(self, partition: int, tile: ClosedTile) -> None:
        """Compare a partition's tile, soon."""
        if tile.number < self._first or self._is_away:
            return
        waiting = self._waiting[partition]
        waiting.append(tile)
        if len(waiting) >= BATCH:
            with self._noting():
                self._compare(partition)

    def folded(self, state: RunState, tiles: Mapping[str, bytes]) -> None:
        """Compare merged tiles, and the digest behind them."""
        number = state.folded
        if self._is_away or number < self._first or self._gate is None or number > self._gate.folded:
            return
        with self._noting():
            for (name, now), was in zip(tiles.items(), self._store.tiles(self._started.run, list(tiles)), strict=True):
                if was is not None:
                    self._into.saw("gate_tiles")
                    for difference in _tallies_differ("gate", None, *tile_of_name(name), was, now):
                        self._into.add(difference)
        if number == self._gate.folded:
            self._into.saw("gate_digest")
            was_digest, digest = self._gate.tiles_digest.hex(), state.tiles_digest.hex()
            if was_digest != digest:
                self._into.add(Difference("gate", number, "tiles_digest", was_digest, digest))

    def finish(self, folded: int) -> None:
        """Compare what waits; `folded` is the last tile that was recomputed."""
        for partition in self._waiting:
            if not self._is_away:
                with self._noting():
                    self._compare(partition)
        if self._gate is not None and self._gate.folded > folded:
            note = f"redis: the gate's digest is that of tile {self._gate.folded}, the replay ends at {folded}"
            self._into.notes.append(note)

    def _compare(self, partition: int) -> None:
        tiles = list(self._waiting[partition])
        if not tiles:
            return
        stored = self._store.tiles(slot_of(self._started.run, partition), [tile.name for tile in tiles])
        self._waiting[partition].clear()
        for tile, was in zip(tiles, stored, strict=True):
            if was is None:
                if self._should_hold(partition, tile):
                    self._into.saw("redis_tiles")
                    self._into.add(Difference("redis", tile.number, "tile", "nothing", "a closed tile", partition))
                continue
            self._into.saw("redis_tiles")
            now = tile.to_bytes()
            if was != now:
                for difference in _tiles_differ(partition, tile, was, now):
                    self._into.add(difference)

    def _should_hold(self, partition: int, tile: ClosedTile) -> bool:
        """Whether the store lacks a tile between others. It is looked at anew: owners drop old tiles all the time."""
        first, last = self._held.get(partition, (0, -1))
        if tile.comparison != CANDIDATE_PRODUCTION or not first <= tile.number <= last:
            return False
        numbers = tile_numbers(self._store.tile_names(slot_of(self._started.run, partition)))
        return bool(numbers) and numbers[0] < tile.number

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """A store that goes away ends the comparison with it, and a note says so."""
        try:
            yield
        except Unavailable as trouble:
            self._is_away = True
            self._into.notes.append(f"redis was not compared to the end: {trouble}")


def _tiles_differ(partition: int, tile: ClosedTile, was: bytes, now: bytes) -> Iterator[Difference]:
    """What differs between a stored and a recomputed share of a tile."""
    was_head, _, was_tally = was.partition(b"\n")
    now_head, _, now_tally = now.partition(b"\n")
    place = ("redis", tile.number)
    try:
        was_parts, now_parts = json.loads(was_head), json.loads(now_head)
    except ValueError:
        yield Difference(*place, "bytes", _shown(was), _shown(now), partition, tile.comparison)
        return
    for key in sorted({*was_parts, *now_parts}):
        if was_parts.get(key) != now_parts.get(key):
            values = (_shown(was_parts.get(key)), _shown(now_parts.get(key)))
            yield Difference(*place, key, *values, partition, tile.comparison)
    yield from _tallies_differ("redis", partition, tile.number, tile.comparison, was_tally, now_tally)


def _tallies_differ(
    where: str, partition: int | None, number: int, comparison: str, was: bytes, now: bytes
) -> Iterator[Difference]:
    """What differs between two tallies, by slice and statistic."""
    if was == now:
        return
    try:
        before, after = Tally.from_bytes(was), Tally.from_bytes(now)
    except (ValueError, TypeError, AttributeError):
        yield Difference(where, number, "bytes", _shown(was), _shown(now), partition, comparison)
        return
    for key in sorted({*before.vectors, *after.vectors, *before.cells, *after.cells}):
        name = f"{key.kind}/{key.name}".rstrip("/")
        for label, was_part, now_part in (
            (name, before.vectors.get(key), after.vectors.get(key)),
            (f"{name} cells", _cells(before, key, after), _cells(after, key, before)),
        ):
            if was_part != now_part:
                values = (_shown(was_part), _shown(now_part))
                yield Difference(where, number, label, *values, partition, comparison, key.slice)


def _cells(tally: Tally, key: Key, other: Tally) -> dict[int, list[int]]:
    """The cluster cells of a key that are not the same in another tally."""
    mine, theirs = tally.cells.get(key, {}), other.cells.get(key, {})
    return {cell: values for cell, values in sorted(mine.items()) if theirs.get(cell) != values}


def compare_decisions(was: Decision, now: Decision | None, into: Comparison) -> None:
    """Compare the recorded decision with the recomputed one, its evidence byte for byte (reliability.md, P4)."""
    into.saw("decisions")
    if now is None:
        into.add(Difference("decision", was.tile, "decision", was.decision, "hold"))
        return
    for name in ("decision", "tile", "tiles_digest", "positions", "culprits", "reason", "command_id"):
        before, after = getattr(was, name), getattr(now, name)
        if before != after:
            into.add(Difference("decision", was.tile, name, _shown(before), _shown(after)))
    if was.evidence == now.evidence:
        return
    try:
        paths = list(_paths_differ(json.loads(was.evidence), json.loads(now.evidence), "evidence"))
    except ValueError:
        paths = []
    for path, before, after in paths or [("evidence", was.evidence, now.evidence)]:
        into.add(Difference("decision", was.tile, path, _shown(before), _shown(after)))


def _paths_differ(was: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}):
            yield from _paths_differ(was.get(key), now.get(key), f"{path}.{key}")
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for index, (before, after) in enumerate(zip(was, now, strict=True)):
            yield from _paths_differ(before, after, f"{path}[{index}]")
    elif was != now:
        yield path, was, now


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
