"""The comparator: folds the answers topic partition by partition and checkpoints the result.

Around the pure fold it does the I/O: reads records, carries out what the fold asks for, appends ticks, and
writes the snapshot. The checkpoint protocol (design.md, section 5), by number here and in the body:

 1. Everything that the folded records caused in the log (pairs, dead letters, marks) is acknowledged.
 2. State and closed tiles go to the store in one compare-and-set with a version that is never reused.
 3. Refused means that another owner wrote, or that the store lost our last write: the state is dropped,
    the stored one is loaded, and reading goes on at its `next`.
 4. Unavailable means that nothing is known: nothing more is read until a checkpoint is through, so memory
    stays bounded, and the next attempt settles what happened.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from consumers.comparator.asks import Asks
from consumers.comparator.constants import answers_at, requests_at
from consumers.comparator.dropping import Dropping, tiles_to_drop
from consumers.comparator.holes import BROKEN, Holes
from consumers.comparator.output import Output
from consumers.comparator.plan import ComparatorPlan, Owned
from consumers.comparator.published import publish
from consumers.comparator.ticks import Ticks
from shadow.adapters.ask_http import AskPool
from shadow.adapters.content import content_of
from shadow.adapters.logs import Repeated
from shadow.errors import BrokenEvidence, InvalidRecord, Refused, Unavailable
from shadow.metrics import Metrics
from shadow.ports import Change, Clock, Log, LogGroup, Store
from shadow.records.answers import ASKED, AnswersRecord
from shadow.records.grades import Grade
from shadow.records.log import LogRecord
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import (
    DROPPED,
    FOLDED,
    AnswersAt,
    AskNow,
    Counting,
    Effects,
    FoldState,
    fields_from_state,
    slot_of,
    state_from_fields,
)

log = logging.getLogger("shadow.comparator")

T = TypeVar("T")


class Comparator:
    """Folds the partitions that its group gives it.

    Args:
        plan: What to fold.
        log_: The log.
        store: Where snapshots go.
        slicer: Slices of the run.
        counting: How each comparison grades and counts.
        asks: Carries out what graders ask for.
        metrics: Counters of this process.
        clock: Wall clock, for ticks only.
        reached: Called at labelled points of the loop, so that a test can end the process there.
    """

    def __init__(
        self,
        plan: ComparatorPlan,
        log_: Log,
        store: Store,
        slicer: Slicer,
        counting: Mapping[str, Counting],
        asks: AskPool,
        metrics: Metrics,
        clock: Clock,
        reached: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._plan = plan
        self._store = store
        self._slicer = slicer
        self._counting = counting
        self._metrics = metrics
        self._clock = clock
        self._reached = reached
        self._admin = log_.admin()
        self._log = log_
        self._owned: dict[int, Owned] = {}
        self._is_paused: bool | None = False
        self._stop = threading.Event()
        self._trouble = Repeated(log, every_s=5.0)
        self._holes = Holes(store, plan.started.run, self._trouble)
        self._output = Output(log_.writer(), plan.started.run, plan.topics, plan.member, clock, self._trouble)
        graders = {grader.name: grader for each in counting.values() for grader in each.graders}
        self._ticks = Ticks(
            self._output,
            self._admin,
            plan.started.run,
            plan.topics["requests"],
            clock,
            self._trouble,
            is_log_append_time=log_.is_log_append_time,
        )
        self._asks = Asks(asks, graders, self._is_waited_for, self._trouble)
        self._is_ready = False
        self._reason = "no checkpoint has gone through yet"
        self._saved_s = 0.0

    def readiness(self) -> tuple[bool, str]:
        """Whether the last checkpoint went through, and what is wrong otherwise."""
        if broken := self._holes.reasons():
            return False, broken
        return self._is_ready, "ok" if self._is_ready else self._reason

    def run(self, stop: threading.Event) -> None:
        """Fold until told to stop; then write the last checkpoint.

        A failure writes none: a record may be folded in half, and the next owner folds on from what is stored.
        """
        self._stop = stop
        group = self._log.group(
            self._plan.topics["answers"],
            self._plan.group,
            member=self._plan.member,
            on_assigned=self._take,
            on_revoked=self._give_up,
        )
        try:
            while not stop.is_set():
                self._step(group)
            self._checkpoint(group, flush_s=5.0)
        except Unavailable:
            if not stop.is_set():
                raise  # waiting for a service was given up though nobody said stop
        finally:
            self._owned.clear()
            group.close()
            self._output.close()
            self._admin.close()

    def _step(self, group: LogGroup) -> None:
        try:
            records = group.read(self._plan.read_max, 0.1)
        except Unavailable as trouble:
            self._trouble.warning("kafka: %s", trouble)
            return
        except BrokenEvidence as hole:
            self._find_holes(str(hole))
            records = []
        self._reached("read")
        now_s = time.monotonic()
        for record in records:
            owned = self._owned.get(record.partition)
            # A record fetched before a partition was taken away, or before a seek, is not ours to fold.
            if owned is None or record.partition in self._holes or record.offset < owned.fold.state.next:
                continue
            if record.offset > owned.fold.state.next:
                self._break(record.partition, owned.version, self._missing(record.partition, record.offset))
                continue
            try:
                effects = owned.fold.apply(record, self._content(record))
            except BrokenEvidence as hole:
                # A request that must be read is gone. The record is folded in half, so nothing is saved any more.
                self._break(record.partition, owned.version, str(hole))
                continue
            self._carry_out(record.partition, owned, effects)
            owned.active_s = now_s
        self._reached("folded")
        for partition, ask, grade in self._asks.grades(now_s):
            self._output.grade(partition, ask, grade)
        self._output.poll()
        for partition, owned in self._owned.items():
            if partition not in self._holes:
                self._ticks.send(partition, owned, now_s)
        if now_s - self._saved_s >= self._plan.checkpoint_s:
            self._saved_s = now_s
            self._checkpoint(group, flush_s=2.0)
        self._throttle(group)

    def _missing(self, partition: int, found: int) -> str:
        first = self._owned[partition].fold.state.next
        return f"{self._plan.topics['answers']}/{partition}: offsets {first} to {found - 1} are missing from the log"

    def _find_holes(self, hole: str) -> None:
        """Find the partitions whose next record the log does not hold; the others are read on."""
        try:
            ends = self._admin.ends(self._plan.topics["answers"])
        except Unavailable as trouble:
            self._trouble.warning("kafka: %s", trouble)
            return
        for partition, owned in self._owned.items():
            first, end = ends[partition]
            if partition not in self._holes and not first <= owned.fold.state.next <= end:
                reason = f"{hole}; the partition begins at {first} and ends before {end}"
                if owned.fold.state.next < first:
                    reason = self._missing(partition, first)
                self._break(partition, owned.version, reason)

    def _content(self, record: LogRecord) -> AnswersRecord | None:
        """Decode a record, or put it aside."""
        try:
            return content_of(record, self._plan.started.run)
        except InvalidRecord as error:
            self._put_aside(record, str(error))
            return None

    def _put_aside(self, record: LogRecord, error: str) -> None:
        self._owned[record.partition].fold.state.counters["dead_letters"] += 1
        self._metrics.inc("shadow_dead_letters_total", topic=record.topic)
        self._output.put_aside(record, error)

    def _carry_out(self, partition: int, owned: Owned, effects: Effects) -> None:
        """Do what the fold asked for. Nothing of it changes what is counted."""
        owned.closed.extend(effects.closed)
        for pair in effects.pairs:
            self._output.pair(partition, pair)
        if not effects.asks:
            return
        marked: set[tuple[int, str]] = set()
        for ask in effects.asks:
            if not ask.is_marked and (ask.request_offset, ask.comparison) not in marked:
                marked.add((ask.request_offset, ask.comparison))
                self._output.grade(partition, ask, Grade(ASKED))
            self._asks.put(partition, ask)

    def _is_waited_for(self, partition: int, ask: AskNow) -> bool:
        owned = self._owned.get(partition)
        waiting = owned.fold.state.waiting.get(ask.request_offset) if owned is not None else None
        return waiting is not None and ask.comparison in waiting.undecided

    def _checkpoint(self, group: LogGroup, *, flush_s: float) -> None:
        # 1. What the folded records caused stands in the log before a snapshot goes past them.
        if self._output.flush(flush_s) > 0:
            self._trouble.warning("kafka: records are not acknowledged; the checkpoint waits")
            self._is_ready = False
            self._reason = "kafka: records are not acknowledged; the checkpoint waits"
            return
        self._reached("flushed")
        self._holes.store()
        for partition in sorted(self._owned):
            owned = self._owned[partition]
            if partition in self._holes or owned.saved_next == owned.fold.state.next:
                continue
            try:
                self._save(partition, owned)
            except Refused:
                # 3. Another owner wrote, or the store fell back: the stored state is the only one.
                self._metrics.inc("shadow_checkpoints_refused_total")
                log.warning("partition %d: the stored state is another one; loading it", partition)
                positions = self._take([partition])
                group.seek(partition, positions[partition])
            except Unavailable as trouble:
                # 4. Nothing is known; nothing is read until a checkpoint is through.
                self._trouble.warning("redis: %s", trouble)
                self._is_ready = False
                self._reason = str(trouble)
                return
        self._is_ready = True
        self._reached("saved")

    def _save(self, partition: int, owned: Owned) -> None:
        state = owned.fold.state
        fields, dropped = fields_from_state(state, only_changed=owned.version is not None)
        dropping = self._dropping(owned)
        if dropping.names:
            fields[DROPPED] = str(dropping.below).encode()
        change = Change(
            version=str(uuid.uuid4()),
            state=fields,
            dropped=dropped,
            tiles={tile.name: tile.to_bytes() for tile in owned.closed},
            dropped_tiles=dropping.names,
        )
        began = time.perf_counter()
        # 2. One compare-and-set.
        self._store.swap(slot_of(self._plan.started.run, partition), owned.version, change)
        self._metrics.observe("shadow_checkpoint_seconds", time.perf_counter() - began)
        owned.version = change.version
        owned.saved_next = state.next
        owned.dropped = dropping.below
        publish(self._metrics, self._plan.started.run, partition, owned, self._clock.now_us())
        owned.closed.clear()
        state.stored()

    def _dropping(self, owned: Owned) -> Dropping:
        """What the gate no longer needs; looked at when a tile has closed, since that is when more is stored."""
        folded = self._store.field(self._plan.started.run, FOLDED) if owned.closed else None
        oldest = owned.fold.state.main.tiles.oldest
        return tiles_to_drop(owned.fold.spec, owned.dropped, int(folded) if folded is not None else -1, oldest)

    def _throttle(self, group: LogGroup) -> None:
        """Stop reading while a checkpoint is stuck or too many grades are being asked for."""
        must_pause = not self._is_ready or self._asks.is_full
        if must_pause != self._is_paused:
            self._is_paused = must_pause
            (group.pause if must_pause else group.resume)(
                [each for each in sorted(self._owned) if each not in self._holes]
            )
            group.pause(self._holes)

    def _take(self, partitions: list[int]) -> dict[int, int]:
        """Load partitions that were given to us, and say where their reading begins."""
        positions = {}
        for partition in partitions:
            owned = self._load(partition)
            self._owned[partition] = owned
            positions[partition] = owned.fold.state.next
            log.info("partition %d: reading from offset %d", partition, owned.fold.state.next)
        self._is_paused = None  # what is paused now is not known; the next step says it again
        return positions

    def _give_up(self, partitions: list[int]) -> None:
        """Forget partitions that were taken away; whoever has them loads what is stored."""
        for partition in partitions:
            self._owned.pop(partition, None)
            self._holes.forget(partition)

    def _load(self, partition: int) -> Owned:
        started = self._plan.started
        spec = replace(
            self._plan.spec,
            partition=partition,
            requests_from=started.requests_from[partition],
            answers_from=started.answers_from[partition],
        )
        requests = requests_at(self._admin, self._plan.topics["requests"], partition, self._with_patience)
        answers = self._answers_of(partition)
        stored = self._with_patience(lambda: self._store.load(slot_of(started.run, partition)))

        def fold(state: FoldState | None = None) -> Fold:
            makes_pairs = self._plan.writes_pairs
            return Fold(spec, self._slicer, self._counting, requests, answers, state, makes_pairs=makes_pairs)

        if stored is None:
            return Owned(fold(), None, dropped=started.first_tile)
        version, fields = stored
        if BROKEN in fields:
            self._holes.known(partition, fields[BROKEN].decode())
            return Owned(fold(), version)
        try:
            state = state_from_fields(fields, spec)
        except InvalidRecord as error:
            log.warning("partition %d: %s; rebuilding it from the log", partition, error)
            self._with_patience(lambda: self._store.purge(slot_of(started.run, partition)))
            return Owned(fold(), None, dropped=started.first_tile)
        dropped = int(fields.get(DROPPED, started.first_tile))
        owned = Owned(fold(state), version, saved_next=state.next, dropped=dropped)
        self._restore(partition, owned)
        return owned

    def _restore(self, partition: int, owned: Owned) -> None:
        """Read the waiting requests' records again by their offsets."""
        waiting = owned.fold.state.waiting.items()
        requests = {offset: request for request, w in waiting if not w.is_parked for offset in w.offsets}
        try:
            found = self._answers_of(partition)(sorted(requests))
        except BrokenEvidence as hole:
            self._break(partition, owned.version, str(hole))
            return
        effects = owned.fold.restore([(requests[record.offset], record, content) for record, content in found])
        self._carry_out(partition, owned, effects)

    def _answers_of(self, partition: int) -> AnswersAt:
        topic, run = self._plan.topics["answers"], self._plan.started.run
        return answers_at(self._admin, topic, partition, run, self._with_patience)

    def _break(self, partition: int, version: str | None, hole: str) -> None:
        """Fold nothing more of a partition, and say so in the store, where the gate sees it."""
        self._is_paused = None
        self._holes.add(partition, version, hole)

    def _with_patience(self, call: Callable[[], T]) -> T:
        """Call a service until it answers or the process shall end; a line every few seconds says what is awaited."""
        while True:
            try:
                return call()
            except Unavailable as error:
                if self._stop.is_set():
                    raise
                self._is_ready = False
                self._reason = str(error)
                self._trouble.warning("%s; trying again", error)
                self._stop.wait(0.5)
