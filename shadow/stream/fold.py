"""The one fold: answers records of one partition, in log order, to closed tiles of every comparison.

    record ──► watermark ──► close ──► pair ──► slice ──► grade ──► tally ──► close
                                            └─► asks (recorded grades come back through the log)

Used by the comparator, by replay and by the offline stage. Everything it decides is a function of the
records and their append times, so no clock, no crash and no replay can change it. Records that must be
read again by offset (they are constants of the log) come through the arguments `requests` and `answers`.

A request is met once, by the first record that names it or by the deadline of a tile without it; from then on
each comparison waits for it until it has decided it: as a pair, or as one of the classes that are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from shadow.records.answers import (
    ASKED,
    EVERY_RUN,
    UNREADABLE,
    Answer,
    AnswersRecord,
    Feedback,
    RecordedGrade,
    Report,
    Tick,
)
from shadow.records.comparisons import CANDIDATE, CANDIDATE_PRODUCTION, PRODUCTION, ROLES_BY_COMPARISON
from shadow.records.grades import BROKEN, Grade
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest
from shadow.records.slices import ALL, in_stage
from shadow.records.tallies import CLASSES, FEEDBACK, ClosedTile, Key, Tally
from shadow.stream.account import Mark
from shadow.stream.answer import is_asked
from shadow.stream.decide import Decider
from shadow.stream.live import Steps, own, production_rate, vote_of
from shadow.stream.pair import Offsets, Undecided, Waiting
from shadow.stream.slice import Slicer
from shadow.stream.state import AnswersAt, Compared, Counting, Effects, FoldSpec, FoldState, RequestsAt
from shadow.stream.tile import Tiles

MARK_GRACE_US: Final = 120_000_000
"""How much longer than a grader's budget a pair waits for a recorded grade (design.md, section 5)."""

_CLASSES_OF_ALL: Final = Key("all", "classes", "")


def _owned(requests: RequestsAt, steps: Steps) -> RequestsAt:
    """The same reader, whose requests are as one run sees them."""

    def read(offsets: Sequence[int]) -> Mapping[int, MirroredRequest | None]:
        return {offset: found and own(found, steps) for offset, found in requests(offsets).items()}

    return read


class Fold:
    """Folds one partition of one run.

    Args:
        spec: The run and the partition.
        slicer: Slices of the run.
        counting: How each comparison of the spec grades and counts.
        requests: Reads requests by offset.
        answers: Reads records of the answers by offset; needed where a comparison is slower than the main one.
        state: Where to go on; None for the run's beginning.
        makes_pairs: Whether the effects carry graded pairs, which nobody needs who does not write them.
    """

    def __init__(
        self,
        spec: FoldSpec,
        slicer: Slicer,
        counting: Mapping[str, Counting],
        requests: RequestsAt,
        answers: AnswersAt | None = None,
        state: FoldState | None = None,
        *,
        makes_pairs: bool = True,
    ) -> None:
        if spec.slow and answers is None:
            raise ValueError(f"{', '.join(sorted(spec.slow))} waits long, so its records must be readable by offset")
        self.spec = spec
        self._requests = requests = _owned(requests, spec.steps)
        self._answers = answers
        self._roles = {name: ROLES_BY_COMPARISON[name] for name in spec.deadlines_us}
        self._by_role = {
            role: tuple(name for name, roles in self._roles.items() if role in roles)
            for roles in self._roles.values()
            for role in roles
        }
        self._sampled = {
            name: tuple(role for role in roles if spec.rates.get(role, 1.0) < 1.0)
            for name, roles in self._roles.items()
        }
        graders = [grader for each in counting.values() for grader in each.graders if grader.is_recorded]
        self._are_pairs_plain = len(self._roles) == 1 and not graders and not any(self._sampled.values())
        self._budget_us = max((grader.budget_us for grader in graders), default=0)
        self.state = state if state is not None else self.first_state(spec, counting)
        self._held: dict[tuple[int, str], None] = {}
        self._decider = Decider(spec, slicer, counting, requests, self.state, self._held, makes_pairs=makes_pairs)

    @staticmethod
    def first_state(spec: FoldSpec, counting: Mapping[str, Counting]) -> FoldState:
        """The state before the run's first record."""
        return FoldState(
            next=spec.answers_from,
            met=Offsets(spec.requests_from),
            compared={
                name: Compared(
                    Tiles(spec.tile_us, deadline_us, spec.first_tile),
                    counting[name].tallier.references(spec.reference_share),
                )
                for name, deadline_us in spec.deadlines_us.items()
            },
        )

    def apply(self, record: LogRecord, content: AnswersRecord | None) -> Effects:
        """Fold one record.

        Args:
            record: The record, at offset `state.next` or, where the log has holes, above it.
            content: What it says; None where it belongs to another run or cannot be read.
        """
        state, effects = self.state, Effects()
        if record.time_us > state.watermark_us:
            state.watermark_us = record.time_us
        state.next = record.offset + 1
        self._close(effects)
        match content:
            case Answer() if content.run == self.spec.run or content.run == EVERY_RUN:
                state.counters["records"] += 1
                if content.request_offset >= self.spec.requests_from and content.role in self._by_role:
                    self._apply_answer(content, record.offset, effects)
            case RecordedGrade() if content.run == self.spec.run and content.comparison in self._roles:
                self._apply_grade(content, record, effects)
            case Tick(tile=int(tile)) if content.run == self.spec.run:
                self._apply_tick(tile, content.requests_end, record.time_us)
            case Report():
                mark = Mark(content.sequence, content.seen, dict(content.dropped))
                state.accounts.report(content.process, content.epoch_us, mark, is_final=content.is_final)
            case Feedback():
                self._apply_feedback(content, record.time_us)
            case _:
                pass
        self._close(effects)
        return effects

    def restore(self, records: Sequence[tuple[int, LogRecord, AnswersRecord]]) -> Effects:
        """Fill the waiting requests again after a load; counts nothing.

        Args:
            records: (request offset, record, content) of every offset that the waiting requests name which are
                not parked, ascending by answers offset.

        Returns:
            The asks that must be put again, because no grade of theirs stands in the log.
        """
        effects = Effects()
        for request, record, content in records:
            self._refill(self.state.waiting[request], record, content)
        uncarried = [request for request, w in self.state.waiting.items() if not w.is_parked and w.exchange is None]
        for request, exchange in (self._requests(sorted(uncarried)) if uncarried else {}).items():
            self.state.waiting[request].exchange = exchange
        for request, waiting in sorted(self.state.waiting.items()):
            # A record completes a pair. What was met without one stays missing, whoever loads it.
            if not waiting.is_parked and waiting.offsets:
                self._decider.grade_complete(request, waiting, effects)
        self._find_held()
        return effects

    def _find_held(self) -> None:
        """Marks are in log order, so the pair that was marked first is also the first to be broken."""
        marked = [
            (undecided.mark_offset, request, name)
            for request, waiting in self.state.waiting.items()
            for name, undecided in waiting.undecided.items()
            if undecided.marked_us is not None
        ]
        self._held.clear()
        self._held.update(((request, name), None) for _, request, name in sorted(marked))

    def _refill(self, waiting: Waiting, record: LogRecord, content: AnswersRecord) -> None:
        match content:
            case Answer():
                waiting.add_answer(self._own(content))
            case RecordedGrade() if content.comparison in waiting.undecided:
                waiting.undecided[content.comparison].take(record, content)
            case _:
                pass

    def _apply_tick(self, tile: int, requests_end: int, time_us: int) -> None:
        """All comparisons have counted the same ticks, whatever each of them has closed."""
        for name, compared in self.state.compared.items():
            if compared.tiles.tick(tile, requests_end, time_us) and name == CANDIDATE_PRODUCTION:
                self.state.accounts.tick(compared.tiles.ends[-1])

    def _apply_feedback(self, vote: Feedback, time_us: int) -> None:
        """Count a negative vote under a canary step, one a request, in the tile where it stands."""
        step = vote_of(vote, self.spec.steps)
        if step is None:
            return
        state = self.state
        if not state.votes.add(vote.request_id):
            state.counters["feedback_repeated"] += 1
            return
        tiles = state.main.tiles
        _, tally = state.main.tally_of(tiles.tile_of(time_us, self.spec.first_tile))
        tally.count_rate(Key(in_stage(step.name, ALL), "rates", FEEDBACK), vote.cell, is_hit=vote.is_routed)

    def _apply_answer(self, answer: Answer, offset: int, effects: Effects) -> None:
        answer = self._own(answer)
        state, request = self.state, answer.request_offset
        waiting = state.waiting.get(request)
        is_new = waiting is None
        if waiting is None:
            if request in state.met:
                self._count_repeat(answer, is_there=False)
                return
            tile = self._tile_of(answer)
            if self._is_pair_at_once(request, answer, tile, effects):
                return
            waiting = Waiting(tile, [offset])
            waiting.add_answer(answer)
            self._meet(request, waiting, is_late=self._is_late(answer, waiting.tile))
        else:
            self._unpark(request, waiting)
            is_there = waiting.has_role(answer.role)
            if is_there or not any(name in waiting.undecided for name in self._by_role[answer.role]):
                self._count_repeat(answer, is_there=is_there)
                self._park(waiting)
                return
            waiting.add_answer(answer)
            waiting.offsets.append(offset)
            state.changed.add(waiting.tile)
        if answer.outcome == UNREADABLE:
            for name in tuple(waiting.undecided):
                self._decider.decide_class(request, waiting, name, "unreadable")
        else:
            self._decider.grade_complete(request, waiting, effects)
        if waiting.undecided:
            if is_new:
                state.keep(request, waiting)
            self._park(waiting)

    def _is_pair_at_once(self, request: int, answer: Answer, tile: int, effects: Effects) -> bool:
        """Count the pair that the first record of a request may be by itself; nothing is kept of it then."""
        state = self.state
        if not self._are_pairs_plain or answer.role != CANDIDATE or tile < state.main.tiles.oldest:
            return False
        if not self._decider.pair_at_once(request, answer, tile, effects):
            return False
        state.met.add(request)
        return True

    def _tile_of(self, answer: Answer) -> int:
        return self.state.main.tiles.tile_of(answer.request_time_us, self.spec.first_tile)

    def _is_late(self, answer: Answer, tile: int) -> bool:
        """Whether the tile of a record's request is closed in every comparison that uses its role."""
        compared = self.state.compared
        for name in self._by_role[answer.role]:  # noqa: SIM110 -- `all` takes 0.4 µs more for every record
            if tile >= compared[name].tiles.oldest:
                return False
        return True

    def _count_repeat(self, answer: Answer, *, is_there: bool) -> None:
        """Count a record that changes nothing: its role is there already, or nobody waits for it."""
        is_late = not is_there and self._is_late(answer, self._tile_of(answer))
        self.state.counters["late" if is_late else "duplicate"] += 1

    def _meet(self, request: int, waiting: Waiting, *, is_late: bool = False) -> None:
        """Have every comparison decide a request that it will never pair; the caller keeps it for the others."""
        state = self.state
        state.met.add(request)
        state.counters["late"] += is_late
        waiting.undecided = {name: Undecided() for name in self._roles}
        # Read now where no record carried it: what is known of a request must not depend on who asks for it first.
        exchange = self._decider.exchange_of(request, waiting)
        for name, compared in state.compared.items():
            if exchange is None:
                self._decider.decide_class(request, waiting, name, "unreadable")
            elif not self._is_asked(exchange, name):
                self._decider.decide_class(request, waiting, name, "sampled_out")
            elif waiting.tile < compared.tiles.oldest:
                self._decider.decide_class(request, waiting, name, "missing")

    def _own(self, answer: Answer) -> Answer:
        """The answer without what it carries of another run's candidate."""
        exchange = answer.exchange
        if exchange is None or exchange.live is None or exchange.live.decision_id is None:
            return answer
        mine = own(exchange, self.spec.steps)
        return answer if mine is exchange else replace(answer, exchange=mine)

    def _is_asked(self, request: MirroredRequest, name: str) -> bool:
        """Whether every role of a comparison is asked about a request."""
        rate = production_rate(request, self.spec.steps) if PRODUCTION in self._roles[name] else 1.0
        if rate < 1.0 and not is_asked(PRODUCTION, request.key, rate):
            return False
        sampled = self._sampled[name]
        return not sampled or all(is_asked(role, request.key, self.spec.rates[role]) for role in sampled)

    def _park(self, waiting: Waiting) -> None:
        """Let go of what is only kept for a comparison that may wait for hours."""
        undecided = waiting.undecided
        if undecided and undecided.keys() <= self.spec.slow and not any(each.is_held for each in undecided.values()):
            waiting.park()

    def _unpark(self, request: int, waiting: Waiting) -> None:
        """Read again what a parked request had."""
        if not waiting.is_parked:
            return
        waiting.is_parked = False
        if waiting.offsets:
            assert self._answers is not None, "only slow comparisons park, and then answers can be read"
            for record, content in self._answers(waiting.offsets):
                self._refill(waiting, record, content)
        self._decider.exchange_of(request, waiting)

    def _apply_grade(self, grade: RecordedGrade, record: LogRecord, effects: Effects) -> None:
        """Take a mark or a grade that a complete pair waits for; any other changes nothing, whoever wrote it."""
        request, name = grade.request_offset, grade.comparison
        waiting = self.state.waiting.get(request)
        undecided = waiting.undecided.get(name) if waiting is not None else None
        needs = undecided.needs if undecided is not None else None
        is_mark = grade.outcome == ASKED
        if (
            waiting is None
            or undecided is None
            or needs is None
            or not (is_mark or (grade.grader, grade.role) in needs)
            or not undecided.take(record, grade)
        ):
            self.state.counters["grades_repeated"] += not is_mark
            return
        waiting.offsets.append(record.offset)
        self.state.changed.add(waiting.tile)
        if is_mark:
            self._held[request, name] = None
            return
        needs.discard((grade.grader, grade.role))
        if not needs:
            self._decider.finish(request, waiting, name, effects)
            self._park(waiting)

    def _close(self, effects: Effects) -> None:
        """Break grades that never came, then close every tile that may close, oldest first."""
        if self._held:
            self._break_overdue_grades(effects)
        for name, compared in self.state.compared.items():
            while compared.tiles.ends and self._is_closable(name, compared):
                self._close_tile(name, compared, effects)

    def _is_closable(self, name: str, compared: Compared) -> bool:
        """Whether every request of the oldest tile is decided; once it is overdue, what is not there is missing."""
        end, met = compared.tiles.ends[0], self.state.met
        if compared.first_undecided(met) >= end:
            return True
        if not compared.tiles.is_overdue(self.state.watermark_us):
            return False
        self._decide_missing(name, compared, end)
        return compared.first_undecided(met) >= end  # else a complete pair still waits for its recorded grades

    def _close_tile(self, name: str, compared: Compared, effects: Effects) -> None:
        number = compared.tiles.close()
        if name == CANDIDATE_PRODUCTION:
            self.state.accounts.advance(compared.first_undecided(self.state.met))
        compared.changed.add(number)
        tally = compared.tallies.pop(number, None) or Tally()
        for index, count in enumerate(tally.vectors.get(_CLASSES_OF_ALL, [0] * len(CLASSES))):
            compared.closed[index] += count
        effects.closed.append(ClosedTile(number, tally, self.state.next, dict(compared.references.frozen_us), name))

    def _decide_missing(self, name: str, compared: Compared, end: int) -> None:
        waiting = self.state.waiting
        unmet = self.state.met.absent_below(end)
        known = sorted(request for request in compared.open if request < end)
        unread = [request for request in known if waiting[request].exchange is None]
        found = self._requests(unmet + unread) if unmet or unread else {}
        for request in unmet:
            fresh = Waiting(compared.tiles.oldest, exchange=found.get(request))
            self._meet(request, fresh)
            if fresh.undecided:
                self.state.keep(request, fresh)
                self._park(fresh)
        for request in sorted({*unmet, *known}):
            kept = waiting.get(request)
            if kept is None or name not in kept.undecided or kept.undecided[name].is_held:
                continue
            kept.exchange = kept.exchange or found.get(request)
            self._decider.decide_class(request, kept, name, "missing")
            self._park(kept)

    def _break_overdue_grades(self, effects: Effects) -> None:
        """Give up recorded grades whose first mark is older than the budget and its grace, in log order."""
        limit_us = self.state.watermark_us - self._budget_us - MARK_GRACE_US
        while self._held:
            request, name = next(iter(self._held))
            waiting = self.state.waiting[request]
            undecided = waiting.undecided[name]
            if undecided.marked_us is None or undecided.marked_us >= limit_us:
                return
            del self._held[request, name]
            if undecided.needs:
                reason = f"no grade within {(self._budget_us + MARK_GRACE_US) // 1_000_000} s of log time"
                for grader, role in sorted(undecided.needs):
                    undecided.graded.setdefault(grader, {})[role] = Grade(BROKEN, None, reason)
                self._decider.finish(request, waiting, name, effects)
                self._park(waiting)
