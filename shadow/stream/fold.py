"""The one fold: answers records of one partition, in log order, to closed tiles.

    record ──► watermark ──► close ──► pair ──► slice ──► grade ──► tally ──► close
                                            └─► asks (recorded grades come back through the log)

Used by the comparator, by replay and by the offline stage. Everything it decides is a function of the
records and their append times, so no clock, no crash and no replay can change it. Requests that must
be read by offset (they are constants of the log) come through the `requests` argument.
"""

from __future__ import annotations

from collections.abc import Sequence

from shadow.graders.grader import Graded, Grader
from shadow.records.answers import (
    ASKED,
    NO_EVIDENCE,
    UNREADABLE,
    Answer,
    AnswersRecord,
    RecordedGrade,
    Report,
    Tick,
)
from shadow.records.grades import BROKEN, Grade
from shadow.records.log import LogRecord
from shadow.records.pairs import GradedPair
from shadow.records.requests import MirroredRequest
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.account import Mark
from shadow.stream.answer import is_asked
from shadow.stream.grade import grade_pair, settle
from shadow.stream.pair import Decided, Waiting
from shadow.stream.slice import Slicer, countable
from shadow.stream.state import AskNow, Effects, FoldSpec, FoldState, RequestsAt
from shadow.stream.tally import Counted, Side, Tallier, cell_of
from shadow.stream.tile import Tiles
from shadow.usage import Price, tokens_of

PRODUCTION = "production"
CANDIDATE = "candidate"
COMPARISON = "candidate-production"

MARK_GRACE_US = 120_000_000
"""How much longer than a grader's budget a pair waits for a recorded grade (design.md, section 5)."""


class Fold:
    """Folds one partition of one run.

    Args:
        spec: The run and the partition.
        slicer: Slices of the run.
        graders: Graders of the run.
        tallier: What to count.
        requests: Reads requests by offset.
        state: Where to go on; None for the run's beginning.
    """

    def __init__(
        self,
        spec: FoldSpec,
        slicer: Slicer,
        graders: Sequence[Grader],
        tallier: Tallier,
        requests: RequestsAt,
        state: FoldState | None = None,
    ) -> None:
        self.spec = spec
        self._slicer = slicer
        self._graders = graders
        self._tallier = tallier
        self._requests = requests
        self._budget_us = max((grader.budget_us for grader in graders if grader.is_recorded), default=0)
        self.state = state if state is not None else self.first_state(spec, tallier)
        self._held: dict[int, None] = {}

    @staticmethod
    def first_state(spec: FoldSpec, tallier: Tallier) -> FoldState:
        """The state before the run's first record."""
        return FoldState(
            next=spec.answers_from,
            tiles=Tiles(spec.tile_us, spec.deadline_us, spec.first_tile),
            decided=Decided(spec.requests_from),
            references=tallier.references(spec.reference_share),
        )

    def apply(self, record: LogRecord, content: AnswersRecord | None) -> Effects:
        """Fold one record.

        Args:
            record: The record, at offset `state.next` or, where the log has holes, above it.
            content: What it says; None where it belongs to another run or cannot be read.
        """
        state, effects = self.state, Effects()
        state.tiles.watermark_us = max(state.tiles.watermark_us, record.time_us)
        state.next = record.offset + 1
        self._close(effects)
        match content:
            case Answer() if content.run in (self.spec.run, "*"):
                state.counters["records"] += 1
                self._apply_answer(content, record.offset, effects)
            case RecordedGrade() if content.run == self.spec.run and content.comparison == COMPARISON:
                self._apply_grade(content, record, effects)
            case Tick(tile=int(tile)) if content.run == self.spec.run:
                if state.tiles.tick(tile, content.requests_end, record.time_us):
                    state.accounts.tick(state.tiles.ends[-1])
            case Report():
                mark = Mark(content.sequence, content.seen, dict(content.dropped))
                state.accounts.report(content.process, content.epoch_us, mark, is_final=content.is_final)
            case _:
                pass
        self._close(effects)
        return effects

    def restore(self, records: Sequence[tuple[int, LogRecord, AnswersRecord]]) -> Effects:
        """Fill the waiting requests again after a load; counts nothing.

        Args:
            records: (request offset, record, content) of every offset that the waiting requests name,
                ascending by answers offset.

        Returns:
            The asks that must be put again, because no grade of theirs stands in the log.
        """
        effects = Effects()
        for request_offset, record, content in records:
            waiting = self.state.waiting[request_offset]
            match content:
                case Answer():
                    waiting.answers.setdefault(content.role, content)
                    waiting.exchange = waiting.exchange or content.exchange
                case RecordedGrade(outcome="asked"):
                    waiting.marked_us, waiting.mark_offset = record.time_us, record.offset
                case RecordedGrade():
                    grade = Grade(content.outcome, content.score, content.reason)
                    waiting.recorded.setdefault((content.grader, content.role), grade)
                case _:
                    pass
        for request_offset, waiting in sorted(self.state.waiting.items()):
            if self._is_complete(waiting):
                self._grade(request_offset, waiting, effects)
        # Marks are in log order, so the pair that was marked first is also the first to be broken.
        marked = [(w.mark_offset, request) for request, w in self.state.waiting.items() if w.marked_us is not None]
        self._held = {request: None for _, request in sorted(marked)}
        return effects

    def _apply_answer(self, answer: Answer, offset: int, effects: Effects) -> None:
        state, request = self.state, answer.request_offset
        if request < self.spec.requests_from:
            return
        tile = state.tiles.tile_of(answer.request_time_us, self.spec.first_tile)
        is_closed = tile < state.tiles.oldest
        if request in state.decided:
            state.counters["late" if is_closed else "duplicate"] += 1
            return
        waiting = state.waiting.get(request)
        if waiting is not None and waiting.has_role(answer.role):
            state.counters["duplicate"] += 1
            return
        if waiting is None:
            waiting = state.waiting[request] = Waiting(tile)
        waiting.add_answer(answer, offset)
        state.changed.add(waiting.tile)
        if is_closed:
            state.counters["late"] += 1
            self._decide_class(request, waiting, "missing")
        elif answer.outcome == UNREADABLE:
            self._decide_class(request, waiting, "unreadable")
        elif self._is_complete(waiting):
            self._complete(request, waiting, effects)

    def _apply_grade(self, grade: RecordedGrade, record: LogRecord, effects: Effects) -> None:
        request, waiting = grade.request_offset, self.state.waiting.get(grade.request_offset)
        if waiting is None:
            self.state.counters["grades_repeated"] += 1
        elif grade.outcome == ASKED:
            if waiting.add_mark(record.time_us, record.offset):
                self._held[request] = None
                self.state.changed.add(waiting.tile)
        elif not waiting.add_grade(grade, record.offset):
            self.state.counters["grades_repeated"] += 1
        else:
            self.state.changed.add(waiting.tile)
            if waiting.needs is not None:
                waiting.needs.discard((grade.grader, grade.role))
                if not waiting.needs:
                    self._finish(request, waiting, effects)

    def _is_complete(self, waiting: Waiting) -> bool:
        return waiting.has_role(PRODUCTION) and waiting.has_role(CANDIDATE)

    def _complete(self, request: int, waiting: Waiting, effects: Effects) -> None:
        """Both answers are there: decide what is no evidence, grade the rest."""
        outcomes = {role: waiting.outcome_of(role) for role in (PRODUCTION, CANDIDATE)}
        if outcomes[CANDIDATE] in NO_EVIDENCE:
            self._decide_class(request, waiting, "candidate_missing")
        elif outcomes[PRODUCTION] in NO_EVIDENCE or outcomes[PRODUCTION] == UNREADABLE:
            self._decide_class(request, waiting, "production_missing")
        else:
            self._grade(request, waiting, effects)

    def _grade(self, request: int, waiting: Waiting, effects: Effects) -> None:
        exchange = self._exchange_of(request, waiting)
        if exchange is None:
            self._decide_class(request, waiting, "unreadable")
            return
        production, candidate = (self._answer_of(waiting, exchange, role) for role in (PRODUCTION, CANDIDATE))
        waiting.slices = self._slicer.slices_of(exchange)
        waiting.sides = {PRODUCTION: production, CANDIDATE: candidate}
        grades = grade_pair(self._graders, waiting.slices, production, candidate, waiting.recorded)
        waiting.graded = grades.known
        waiting.needs = set(grades.asks)
        for (grader, role), ask in grades.asks.items():
            effects.asks.append(
                AskNow(request, exchange.key, grader, role, ask, is_marked=waiting.marked_us is not None)
            )
        if not waiting.needs:
            self._finish(request, waiting, effects)

    def _finish(self, request: int, waiting: Waiting, effects: Effects) -> None:
        """Count a complete pair whose grades are all there."""
        exchange = self._exchange_of(request, waiting)
        assert exchange is not None, "a pair is graded only when its request could be read"
        for (grader, role), grade in waiting.recorded.items():
            waiting.graded.setdefault(grader, {})[role] = grade
        settled: dict[str, dict[str, Grade]] = {}
        for name, by_role in waiting.graded.items():
            production, candidate = settle(by_role[PRODUCTION], by_role[CANDIDATE])
            settled[name] = {PRODUCTION: production, CANDIDATE: candidate}
        answers = waiting.sides
        tile, tally = self._tally_of(waiting)
        counted = self._counted(exchange, waiting.slices)
        sides = {role: _side(answer) for role, answer in answers.items()}
        self._tallier.count_pair(tally, counted, sides[PRODUCTION], sides[CANDIDATE], settled, self.state.references)
        effects.pairs.append(
            GradedPair(
                run=self.spec.run,
                comparison=COMPARISON,
                request_partition=self.spec.partition,
                request_offset=request,
                request_id=exchange.request_id,
                key=exchange.key,
                tile=tile,
                slices=counted.slices,
                grades=waiting.graded,
                request_body=exchange.body,
                production_outcome=answers[PRODUCTION].outcome,
                production_body=answers[PRODUCTION].body,
                production_duration_us=answers[PRODUCTION].duration_us,
                production_cost_micro=answers[PRODUCTION].cost_micro,
                candidate_outcome=answers[CANDIDATE].outcome,
                candidate_body=answers[CANDIDATE].body,
                candidate_duration_us=answers[CANDIDATE].duration_us,
                candidate_cost_micro=answers[CANDIDATE].cost_micro,
            )
        )
        self._decide(request, waiting, exchange)

    def _decide_class(self, request: int, waiting: Waiting, name: str) -> None:
        """Count a request that is no pair."""
        exchange = self._exchange_of(request, waiting)
        if exchange is None:
            counted, name = Counted(("all",), 0, "", 0, 0), "unreadable"
        else:
            counted = self._counted(exchange)
            if not is_asked(CANDIDATE, exchange.key, self.spec.candidate_rate):
                name = "sampled_out"
        _, tally = self._tally_of(waiting)
        self._tallier.count_class(tally, counted, name)
        self._decide(request, waiting, exchange)

    def _decide(self, request: int, waiting: Waiting, exchange: MirroredRequest | None) -> None:
        self.state.decided.add(request)
        self.state.waiting.pop(request, None)
        self._held.pop(request, None)
        self.state.changed.add(waiting.tile)
        if exchange is not None:
            origin = exchange.origin
            mark = Mark(origin.sequence, origin.seen, dict(origin.dropped))
            self.state.accounts.present(origin.process, origin.epoch_us, mark, offset=request)

    def _tally_of(self, waiting: Waiting) -> tuple[int, Tally]:
        """The open tile in which a request counts: its own, else the oldest that is still open."""
        tile = max(waiting.tile, self.state.tiles.oldest)
        self.state.changed.add(tile)
        return tile, self.state.tallies.setdefault(tile, Tally())

    def _close(self, effects: Effects) -> None:
        """Break grades that never came, then close every tile that may close, oldest first."""
        self._break_overdue_grades(effects)
        tiles, decided = self.state.tiles, self.state.decided
        while tiles.ends:
            end = tiles.ends[0]
            if decided.base < end:
                if not tiles.is_overdue():
                    return
                self._decide_missing(decided.undecided_below(end))
                if decided.base < end:
                    return  # a complete pair still waits for its recorded grades
            number = tiles.close()
            self.state.accounts.advance(decided.base)
            self.state.changed.add(number)
            tally = self.state.tallies.pop(number, None) or Tally()
            effects.closed.append(ClosedTile(number, tally, self.state.next, dict(self.state.references.frozen_us)))

    def _decide_missing(self, requests: Sequence[int]) -> None:
        absent = [request for request in requests if request not in self.state.waiting]
        found = self._requests(absent) if absent else {}
        for request in requests:
            waiting = self.state.waiting.get(request)
            if waiting is None:
                waiting = Waiting(self.state.tiles.oldest, exchange=found.get(request))
            elif waiting.is_held:
                continue
            self._decide_class(request, waiting, "missing")

    def _break_overdue_grades(self, effects: Effects) -> None:
        """Give up recorded grades whose first mark is older than the budget and its grace, in log order."""
        limit_us = self.state.tiles.watermark_us - self._budget_us - MARK_GRACE_US
        while self._held:
            request = next(iter(self._held))
            waiting = self.state.waiting[request]
            if waiting.marked_us is None or waiting.marked_us >= limit_us:
                return
            del self._held[request]
            if waiting.needs:
                for grader, role in sorted(waiting.needs):
                    reason = f"no grade within {(self._budget_us + MARK_GRACE_US) // 1_000_000} s of log time"
                    waiting.graded.setdefault(grader, {})[role] = Grade(BROKEN, None, reason)
                self._finish(request, waiting, effects)

    def _exchange_of(self, request: int, waiting: Waiting) -> MirroredRequest | None:
        """The request, read by offset where no record carried it."""
        if waiting.exchange is None:
            waiting.exchange = self._requests([request]).get(request)
        return waiting.exchange

    def _counted(self, exchange: MirroredRequest, slices: tuple[str, ...] | None = None) -> Counted:
        known = slices if slices is not None else self._slicer.slices_of(exchange)
        slices = countable(known, exchange.u, exchange.sample, exchange.quotas)
        return Counted(
            slices=slices,
            cell=cell_of(exchange.key),
            request_id=exchange.request_id,
            body_bytes=len(exchange.body),
            production_us=exchange.live.duration_us if exchange.live is not None else 0,
        )

    def _answer_of(self, waiting: Waiting, exchange: MirroredRequest, role: str) -> Graded:
        """A role's answer as graders see it: the worker's record, else the live exchange."""
        answer = waiting.answers.get(role)
        if answer is not None:
            return Graded(
                role=role,
                request=exchange,
                outcome=answer.outcome,
                status=answer.status,
                headers=answer.headers,
                body=answer.body,
                duration_us=answer.duration_us,
                first_byte_us=answer.first_byte_us,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                cost_micro=answer.cost_micro,
            )
        live = exchange.live
        assert live is not None, "has_role() saw the live answer"
        is_failed_attempt = live.role != role
        prompt, completion = tokens_of(live.body, is_stream=live.is_stream)
        return Graded(
            role=role,
            request=exchange,
            outcome=waiting.outcome_of(role),
            status=live.status,
            headers=live.headers,
            body=b"" if is_failed_attempt else live.body,
            duration_us=live.duration_us,
            first_byte_us=live.first_byte_us,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_micro=self.spec.price.get(role, Price()).cost_micro(prompt, completion),
        )


def _side(answer: Graded) -> Side:
    return Side(
        outcome=answer.outcome,
        duration_us=answer.duration_us,
        first_byte_us=answer.first_byte_us,
        cost_micro=answer.cost_micro,
        tokens=answer.prompt_tokens + answer.completion_tokens,
    )
