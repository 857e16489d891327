"""Recompute a run from its log: fold every partition, close tiles, add them up, judge, decide.

    answers ──► fold, one per partition ──► closed tiles ──► merged tile f ──► totals, digest ──► judgement ──► decision

The same functions as in comparator and gate, without their services. How the partitions' records are interleaved
changes nothing, since a partition's tiles depend on its own log alone and are added up by number.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shadow.cli import wiring
from shadow.cli.refold import fold_record
from shadow.cli.replay_log import Reading, Records, RequestsByOffset, Source, answers_by_offset, ends_of
from shadow.errors import BrokenEvidence
from shadow.gate.commands import obeying, order_of, under_hold
from shadow.gate.history import PROMOTED_ELSEWHERE, Run
from shadow.gate.judgement import Judgement
from shadow.gate.run import RunState, advance, decide, fold_tile, judge_tile, lagging_tiles
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name
from shadow.records.decisions import EXPIRE, HOLD, ROLLBACK, Decision, Started
from shadow.records.log import LogRecord
from shadow.records.pairs import GradedPair
from shadow.records.tallies import ClosedTile, Tally
from shadow.settings.settings import Settings
from shadow.stream.fold import Fold

AHEAD_MAX: Final = 120
"""Tiles by which a partition may be ahead of the slowest one; beyond it, it rests, so that few tiles are held."""
NAMED_MAX: Final = 100
"""Unreadable records that are named; the others are counted."""


def _nothing(*_: object) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Who is told of what, while a replay goes on.

    Args:
        closed: Of a partition's closed tile.
        folded: Of the gate's state behind a tile, and the bytes of the merged tiles folded into it, by their names.
        pair: Of a graded pair, each once.
        progress: Of how many answers records are folded, and of how many.
    """

    closed: Callable[[int, ClosedTile], None] = _nothing
    folded: Callable[[RunState, Mapping[str, bytes]], None] = _nothing
    pair: Callable[[GradedPair], None] = _nothing
    progress: Callable[[int, int], None] = _nothing


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What is recomputed.

    Args:
        settings: What is counted and judged.
        answers: Name of the answers topic.
        requests: Name of the requests topic.
        recorded: The run's decisions, each of which is recomputed where it was taken.
        decides: Whether the replay takes a decision of its own, and ends with it, as a back-test does.
        first: First tile that the gate folds.
        last: Last one; None: as far as the log goes.
        graders: Graders whose recorded grades count; None for all.
        run: What people ordered, and from which tile it held; None: nobody did, as in a back-test.
    """

    settings: Settings
    started: Started
    answers: str
    requests: str
    first: int
    last: int | None = None
    recorded: tuple[Decision, ...] = ()
    decides: bool = False
    graders: frozenset[str] | None = None
    run: Run | None = None


@dataclass(slots=True)
class Replayed:
    """What a replay found.

    Args:
        state: The gate's state behind the last tile folded.
        judgement: Of that tile, or of the one that decided; None before the first tile.
        decision: What was decided last; None while the evidence holds.
        recomputed: What was decided at the tile of each recorded decision that was reached, by its step.
        early: Tile and decision of the first one that the evidence brings and the log has not.
        unreadable: (place, reason) of records that cannot be read, the first `NAMED_MAX`.
        counters: The folds' counters, added up over the partitions.
        pairs: Graded pairs, those of open tiles included.
        log_us: First and last append time.
        broken: Why the evidence cannot be recomputed to its end; empty if it can.
    """

    state: RunState
    judgement: Judgement | None = None
    decision: Decision | None = None
    recomputed: dict[int, Decision | None] = field(default_factory=dict)
    early: tuple[int, str] | None = None
    positions: tuple[int, ...] = ()
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    unreadable_count: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    records: int = 0
    pairs: int = 0
    log_us: tuple[int, int] = (0, 0)
    took_s: float = 0.0
    broken: str = ""

    @property
    def times_live(self) -> float | None:
        """How many times faster than the log grew; None where it grew in no time."""
        span_s = (self.log_us[1] - self.log_us[0]) / 1e6
        return span_s / self.took_s if span_s > 0 and self.took_s > 0 else None


@dataclass(slots=True)
class _Merged:
    """A tile, added up over the partitions that have closed it."""

    tally: Tally = field(default_factory=Tally)
    next: dict[int, int] = field(default_factory=dict)


class Replay:
    """One recomputation.

    Args:
        source: Where the records are.
        taps: Who is told of what.
    """

    def __init__(self, plan: ReplayPlan, source: Source, taps: Taps = Taps()) -> None:
        self._plan = plan
        self._source = source
        self._taps = taps
        self._partitions = len(plan.started.answers_from)
        policy = plan.settings.policy()
        state = RunState.begin(plan.started.run, policy, plan.first, plan.started.stage)
        self.found = Replayed(state, positions=plan.started.answers_from)
        self._merged: dict[str, _Merged] = {}
        self._closed = [plan.started.first_tile - 1] * self._partitions
        self._foldable = sys.maxsize

    def run(self) -> Replayed:
        """Recompute. A hole in the log is said in the result, with what was found up to it."""
        began_s = time.monotonic()
        reader, admin = self._source.reader(), self._source.admin()
        folds: list[Fold] = []
        try:
            ends = ends_of(admin, self._plan.answers, self._plan.started.answers_from)
            folds += [self._fold(admin, partition) for partition in range(self._partitions)]
            self._read(Reading(reader, self._plan.answers, self._plan.started.answers_from, ends), folds, ends)
            self._check_end(ends)
        except BrokenEvidence as hole:
            self.found.broken = str(hole)
        finally:
            reader.close()
            admin.close()
        for fold in folds:
            for name, count in fold.state.counters.items():
                self.found.counters[name] = self.found.counters.get(name, 0) + count
        self.found.took_s = time.monotonic() - began_s
        return self.found

    @property
    def is_done(self) -> bool:
        """Whether the last tile that is wanted is folded, or a replay that decides by itself has decided."""
        found, plan = self.found, self._plan
        if plan.decides and found.state.latched:
            return True
        return plan.last is not None and found.state.folded >= plan.last

    def _fold(self, admin: Records, partition: int) -> Fold:
        plan = self._plan
        requests = RequestsByOffset(admin, plan.requests, partition, self._put_aside)
        answers = answers_by_offset(admin, plan.answers, partition, plan.started.run)
        return wiring.new_fold(plan.settings, plan.started, partition, requests, answers)

    def _read(self, reading: Reading, folds: list[Fold], ends: list[int]) -> None:
        begin, found = self._plan.started.answers_from, self.found
        total = sum(ends) - sum(begin)
        resting: set[int] = set()
        while not self.is_done and (records := reading.records()):
            for record in records:
                self._apply(folds[record.partition], record)
            self._judge_what_is_there()
            unfinished = reading.unfinished
            slowest = min((self._closed[each] for each in unfinished), default=0)
            resting = {each for each in unfinished if self._closed[each] > slowest + self._ahead_max(each in resting)}
            reading.rest(resting)
            over = set(range(self._partitions)).difference(unfinished)
            # What a partition that has ended did not close can never be folded, so it need not be held.
            self._foldable = min((self._closed[each] for each in over), default=sys.maxsize)
            self._taps.progress(found.records, total)

    @staticmethod
    def _ahead_max(is_resting: bool) -> int:
        # Reading on costs what was fetched ahead, so a partition rests for a while.
        return AHEAD_MAX // 2 if is_resting else AHEAD_MAX

    def _apply(self, fold: Fold, record: LogRecord) -> None:
        found = self.found
        effects = fold_record(fold, record, self._put_aside, self._plan.graders)
        found.records += 1
        found.log_us = (min(found.log_us[0] or record.time_us, record.time_us), max(found.log_us[1], record.time_us))
        for pair in effects.pairs:
            found.pairs += pair.comparison == CANDIDATE_PRODUCTION
            self._taps.pair(pair)
        for tile in effects.closed:
            self._taps.closed(record.partition, tile)
            if tile.comparison == CANDIDATE_PRODUCTION:
                self._closed[record.partition] = tile.number
            # The main tile with which it is folded.
            folded_with = tile.number + found.state.policy.lag_tiles(tile.comparison)
            if tile.number < self._plan.first or folded_with > self._foldable:
                continue
            merged = self._merged.setdefault(tile.name, _Merged())
            merged.tally.add(tile.tally)
            merged.next[record.partition] = tile.next

    def _put_aside(self, record: LogRecord, error: str) -> None:
        self.found.unreadable_count += 1
        if len(self.found.unreadable) < NAMED_MAX:
            self.found.unreadable.append((f"{record.topic}/{record.partition}/{record.offset}", error))

    def _judge_what_is_there(self) -> None:
        """Fold and judge every tile that all partitions have closed, in their order."""
        state = self.found.state
        while not self.is_done:
            number = state.folded + 1
            wanted = {CANDIDATE_PRODUCTION: number, **lagging_tiles(state.policy, state.first_tile, number)}
            names = {comparison: tile_name(each, comparison) for comparison, each in wanted.items()}
            if any(name not in self._merged or not self._is_whole(name) for name in names.values()):
                return
            merged = {comparison: self._merged.pop(name) for comparison, name in names.items()}
            tiles = {comparison: each.tally.to_bytes() for comparison, each in merged.items()}
            # From their canonical bytes, so that not even the order of keys tells which partition came first.
            tallies = {comparison: Tally.from_bytes(value) for comparison, value in tiles.items()}
            main = tallies.pop(CANDIDATE_PRODUCTION)
            fold_tile(state, number, main, tiles[CANDIDATE_PRODUCTION], tallies)
            positions = merged[CANDIDATE_PRODUCTION].next
            self.found.positions = tuple(positions[each] for each in range(self._partitions))
            self._judge()
            self._taps.folded(state, {names[comparison]: value for comparison, value in tiles.items()})

    def _is_whole(self, name: str) -> bool:
        """Whether every partition has closed a tile."""
        return len(self._merged[name].next) == self._partitions

    def _judge(self) -> None:
        found, state = self.found, self.found.state
        following = self._plan.recorded[len(found.recomputed) :]
        while following and following[0].tile < state.folded:
            following = following[1:]
        if following and state.folded == following[0].tile:
            recorded = following[0]
            found.judgement, found.decision = self._as_recorded(recorded)
            found.recomputed[recorded.step] = found.decision
            if not state.latched:
                advance(state, recorded)
            return
        if state.latched:
            return
        found.judgement = self._let_stand(self._judged(freshness_s=0.0))
        if found.judgement.decision == HOLD:
            return
        if self._plan.decides:
            found.decision = decide(state, found.judgement, positions=found.positions, decided_us=0)
            if found.decision is not None:
                advance(state, found.decision)
        elif found.early is None and (following or not self._plan.recorded):
            found.early = (state.folded, found.judgement.decision)

    def _as_recorded(self, recorded: Decision) -> tuple[Judgement, Decision | None]:
        """The judgement and decision behind the tile of the recorded one, with what the gate's clock put into it.

        The log does not tell two things: how fresh the tile was, and that the run's longest age was over. Both are
        taken from the record; everything else is recomputed.
        """
        state, run = self.found.state, self._plan.run or Run(self._plan.started, ())
        freshness_s = freshness_of(recorded)
        judgement = self._let_stand(self._judged(freshness_s=freshness_s))
        order = order_of(run, recorded.command_id) if recorded.command_id else None
        has_expired = recorded.decision == EXPIRE and (
            recorded.decided_us >= run.expires_us or recorded.reason.startswith(PROMOTED_ELSEWHERE)
        )
        if order is not None and judgement.decision != ROLLBACK:
            judgement = obeying(self._judged(freshness_s=freshness_s, with_bounds=True), order)
        elif judgement.decision == HOLD and has_expired and recorded.reason.endswith(judgement.reason):
            # The gate adds bounds to a held judgement only when it also shows it.
            with_bounds = any(line.get("upper") is not None for line in _part(recorded, "judgement").get("rules", ()))
            judgement = self._let_stand(self._judged(freshness_s=freshness_s, with_bounds=with_bounds))
            judgement = dataclasses.replace(judgement, decision=EXPIRE, reason=recorded.reason)
        made = decide(state, judgement, positions=self.found.positions, decided_us=recorded.decided_us)
        if made is not None and order is not None:
            made = dataclasses.replace(made, command_id=order.command.command_id)
        return judgement, made

    def _judged(self, *, freshness_s: float, with_bounds: bool = False) -> Judgement:
        """The evidence of the last tile, with the extensions that held there."""
        state, run = self.found.state, self._plan.run
        return judge_tile(
            state,
            attempt=self._plan.started.attempt,
            freshness_s=freshness_s,
            with_bounds=with_bounds,
            extended_s=run.extended_s_at(state.folded) if run is not None else 0,
        )

    def _let_stand(self, judgement: Judgement) -> Judgement:
        """What the holds of people let stand of it."""
        run = self._plan.run
        return under_hold(run, self.found.state.folded, judgement) if run is not None else judgement

    def _check_end(self, ends: list[int]) -> None:
        last, folded = self._plan.last, self.found.state.folded
        if last is not None and folded < last and not self.is_done:
            behind = [each for each in range(self._partitions) if self._closed[each] < last]
            places = ", ".join(f"{self._plan.answers}/{each} at {ends[each]}" for each in behind)
            why = places or "another comparison waits longer"
            raise BrokenEvidence(f"the log ends before tile {last} is closed: {why}; the last is {folded}")


def freshness_of(recorded: Decision) -> float:
    """Age of the last tile by the gate's clock, as the decision's evidence says it; 0 where it does not."""
    found = _part(recorded, "evidence").get("freshness_s")
    return found if isinstance(found, float) else float(found) if isinstance(found, int) else 0.0


def _part(recorded: Decision, name: str) -> dict[str, Any]:
    """`evidence` or `judgement` of a recorded decision; empty where it cannot be read."""
    try:
        part = json.loads(recorded.evidence)[name]
    except (ValueError, KeyError, TypeError):
        return {}
    return part if isinstance(part, dict) else {}
