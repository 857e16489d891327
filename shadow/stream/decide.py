"""Decide one request in one comparison: as a pair whose grades are all there, or as a class that is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shadow.graders.grader import Graded
from shadow.records.answers import NO_EVIDENCE, UNREADABLE, Answer
from shadow.records.comparisons import BASELINE, CANDIDATE, CANDIDATE_PRODUCTION, PRODUCTION, ROLES_BY_COMPARISON
from shadow.records.grades import Grade
from shadow.records.pairs import GradedPair, make_pair
from shadow.records.policy import CANARY
from shadow.records.requests import MirroredRequest
from shadow.records.slices import ALL, in_stage
from shadow.records.tallies import BALANCE, CLASSES, Key, Tally
from shadow.records.votes import cell_of
from shadow.stream.account import Mark
from shadow.stream.agree import count_agreement
from shadow.stream.grade import Applicable, grade_pair, settled
from shadow.stream.live import is_routed, step_of, with_stage
from shadow.stream.pair import Waiting
from shadow.stream.repeat import count_repeated
from shadow.stream.sides import graded_of_answer, graded_of_live
from shadow.stream.slice import Slicer, countable
from shadow.stream.state import AskNow, Counting, Effects, FoldSpec, FoldState, RequestsAt
from shadow.stream.tally import Counted, make_counted
from shadow.usage import Price

_NO_PRICE: Final = Price()
_PAIRED: Final = CLASSES.index("paired")
_UNGRADED: Final = NO_EVIDENCE | {UNREADABLE}


class _Complete(NamedTuple):
    """A pair: its request with its slices, both sides, and their grades by grader, then role."""

    exchange: MirroredRequest
    slices: tuple[str, ...]
    reference: Graded
    candidate: Graded
    graded: Mapping[str, Mapping[str, Grade]]


class Decider:
    """Counts what is decided in the open tiles of a fold's state.

    Args:
        spec: The run and the partition.
        slicer: Slices of the run.
        counting: How each comparison grades and counts.
        requests: Reads requests by offset.
        state: The fold's state.
        held: Marked requests by (offset, comparison), in the order of their marks; what is decided is taken out.
        makes_pairs: Whether the effects carry graded pairs.
    """

    def __init__(
        self,
        spec: FoldSpec,
        slicer: Slicer,
        counting: Mapping[str, Counting],
        requests: RequestsAt,
        state: FoldState,
        held: dict[tuple[int, str], None],
        *,
        makes_pairs: bool,
    ) -> None:
        self._spec = spec
        self._slicer = slicer
        self._counting = counting
        self._requests = requests
        self._state = state
        self._held = held
        self._makes_pairs = makes_pairs
        self._applicable = {name: Applicable(each.graders) for name, each in counting.items()}
        self._repeated = {name: Applicable(each.repeated) for name, each in counting.items()}
        self._roles = {name: ROLES_BY_COMPARISON[name] for name in spec.deadlines_us}

    def grade_complete(self, request: int, waiting: Waiting, effects: Effects) -> None:
        """Decide what is no evidence, and grade the rest, in every comparison whose answers are all there."""
        for name in tuple(waiting.undecided):
            roles = self._roles[name]
            if not waiting.has_roles(roles) or waiting.undecided[name].is_held:
                continue
            outcomes = {role: waiting.outcome_of(role) for role in roles}
            if NO_EVIDENCE.isdisjoint(outcomes.values()) and outcomes[roles[0]] != UNREADABLE:
                self._grade(request, waiting, name, effects)
            elif outcomes[CANDIDATE] in NO_EVIDENCE:
                self.decide_class(request, waiting, name, "candidate_missing")
            elif outcomes[roles[0]] in NO_EVIDENCE or outcomes[roles[0]] == UNREADABLE:
                self.decide_class(request, waiting, name, "production_missing")
            else:
                self.decide_class(request, waiting, name, "missing")

    def _grade(self, request: int, waiting: Waiting, name: str, effects: Effects) -> None:
        exchange = self.exchange_of(request, waiting)
        if exchange is None:
            self.decide_class(request, waiting, name, "unreadable")
            return
        undecided = waiting.undecided[name]
        undecided.slices = self._slicer.slices_of(exchange)
        undecided.sides = {role: self._side_of(waiting, exchange, role) for role in self._roles[name]}
        reference, candidate = undecided.sides[self._roles[name][0]], undecided.sides[CANDIDATE]
        graders = self._applicable[name].graders_of(undecided.slices)
        grades = grade_pair(graders, reference, candidate, undecided.recorded)
        undecided.graded = grades.known
        undecided.needs = set(grades.asks)
        is_marked = undecided.marked_us is not None
        for (grader, role), ask in grades.asks.items():
            effects.asks.append(AskNow(request, name, exchange.key, grader, role, ask, is_marked))
        if not undecided.needs:
            self.finish(request, waiting, name, effects)

    def finish(self, request: int, waiting: Waiting, name: str, effects: Effects) -> None:
        """Count a complete pair whose grades are all there."""
        exchange = self.exchange_of(request, waiting)
        undecided = waiting.undecided[name]
        assert exchange is not None and undecided.slices is not None, "a pair is graded once its request could be read"
        for (grader, role), grade in undecided.recorded.items():
            undecided.graded.setdefault(grader, {})[role] = grade
        reference = undecided.sides[self._roles[name][0]]
        candidate, baseline = undecided.sides[CANDIDATE], undecided.sides.get(BASELINE)
        found = _Complete(exchange, undecided.slices, reference, candidate, undecided.graded)
        self._count(request, name, waiting.tile, found, baseline, effects)
        self._decide(request, waiting, name, "paired", exchange)

    def pair_at_once(self, request: int, answer: Answer, tile: int, effects: Effects) -> bool:
        """Count the pair that one record is by itself: a candidate's answer that carries production's.

        The same as `grade_complete`, for a run with one comparison whose graders ask nobody. Nothing waits then, so
        nothing is kept, and a pair takes 4 µs less.

        Returns:
            False, and has done nothing, where the record is no such pair.
        """
        exchange = answer.exchange
        live = exchange.live if exchange is not None else None
        if exchange is None or live is None or live.role != PRODUCTION or live.failed_attempt is not None:
            return False
        if answer.outcome in _UNGRADED or live.outcome in _UNGRADED:
            return False
        name = CANDIDATE_PRODUCTION
        slices = self._slicer.slices_of(exchange)
        reference = graded_of_live(exchange, PRODUCTION, live.outcome, self._spec.price.get(PRODUCTION, _NO_PRICE))
        candidate = graded_of_answer(answer, exchange)
        graded = grade_pair(self._applicable[name].graders_of(slices), reference, candidate, {}).known
        self._count(request, name, tile, _Complete(exchange, slices, reference, candidate, graded), None, effects)
        self._state.main.decided[_PAIRED] += 1
        self._account(request, exchange)
        return True

    def _count(
        self, request: int, name: str, tile: int, found: _Complete, baseline: Graded | None, effects: Effects
    ) -> None:
        """Count a pair in the tally of its tile, and make its record."""
        exchange, slices, reference, candidate, graded = found
        counting, compared = self._counting[name], self._state.compared[name]
        tile, tally = compared.tally_of(tile)
        counted = self._counted(exchange, slices)
        grades = settled(graded, reference.role, CANDIDATE)
        counting.tallier.count_pair(tally, counted, reference, candidate, grades, compared.references)
        self._count_balance(tally, exchange, counted, name)
        if baseline is not None:
            count_agreement(
                tally,
                counting.agreements,
                counted.slices,
                counted.cell,
                production=reference,
                candidate=candidate,
                baseline=baseline,
            )
            repeated = self._repeated[name].graders_of(slices)
            if repeated:
                both = settled(grade_pair(repeated, reference, baseline, {}).known, reference.role, baseline.role)
                count_repeated(tally, counting.repeated_in, counted.slices, counted.cell, both)
        if self._makes_pairs:
            effects.pairs.append(self._pair(request, name, tile, counted.slices, found))

    def _count_balance(self, tally: Tally, exchange: MirroredRequest, counted: Counted, name: str) -> None:
        """Count who was to serve a request of a canary step, paired or not, as a rate: the share is a condition."""
        step = step_of(exchange, self._spec.steps) if self._spec.steps and name == CANDIDATE_PRODUCTION else None
        if step is None or step.stage != CANARY or ALL not in counted.slices:
            return
        key = Key(in_stage(step.name, ALL), "rates", BALANCE)
        tally.count_rate(key, counted.cell, is_hit=is_routed(exchange))

    def _pair(self, request: int, name: str, tile: int, slices: tuple[str, ...], found: _Complete) -> GradedPair:
        exchange, _, reference, candidate, graded = found
        return make_pair(
            run=self._spec.run,
            comparison=name,
            request_partition=self._spec.partition,
            request_offset=request,
            request_id=exchange.request_id,
            key=exchange.key,
            tile=tile,
            slices=slices,
            grades=graded,
            request_body=exchange.body,
            production_outcome=reference.outcome,
            production_body=reference.body,
            production_duration_us=reference.duration_us,
            production_cost_micro=reference.cost_micro,
            candidate_outcome=candidate.outcome,
            candidate_body=candidate.body,
            candidate_duration_us=candidate.duration_us,
            candidate_cost_micro=candidate.cost_micro,
        )

    def decide_class(self, request: int, waiting: Waiting, name: str, result: str) -> None:
        """Count a request that is no pair of a comparison."""
        exchange = self.exchange_of(request, waiting)
        if exchange is None:
            counted, result = make_counted(("all",), 0, "", 0, 0), "unreadable"
        else:
            counted = self._counted(exchange)
        _, tally = self._state.compared[name].tally_of(waiting.tile)
        self._counting[name].tallier.count_class(tally, counted, result)
        if exchange is not None:
            self._count_balance(tally, exchange, counted, name)
        self._decide(request, waiting, name, result, exchange)

    def _decide(self, request: int, waiting: Waiting, name: str, result: str, exchange: MirroredRequest | None) -> None:
        state, compared = self._state, self._state.compared[name]
        compared.decided[CLASSES.index(result)] += 1
        del waiting.undecided[name]
        compared.open.discard(request)
        self._held.pop((request, name), None)
        if waiting.undecided:
            state.changed.add(waiting.tile)
        else:
            state.forget(request)
        if exchange is not None and name == CANDIDATE_PRODUCTION:
            self._account(request, exchange)

    def _account(self, request: int, exchange: MirroredRequest) -> None:
        """A request that stands in the topic is decided."""
        origin = exchange.origin
        mark = Mark(origin.sequence, origin.seen, origin.dropped)
        self._state.accounts.present(origin.process, origin.epoch_us, mark, offset=request)

    def exchange_of(self, request: int, waiting: Waiting) -> MirroredRequest | None:
        """The request, read by offset where no record carried it."""
        if waiting.exchange is None:
            waiting.exchange = self._requests([request]).get(request)
        return waiting.exchange

    def _counted(self, exchange: MirroredRequest, slices: tuple[str, ...] | None = None) -> Counted:
        known = slices if slices is not None else self._slicer.slices_of(exchange)
        slices = countable(known, exchange.u, exchange.sample, exchange.quotas)
        if self._spec.steps and is_routed(exchange):
            step = step_of(exchange, self._spec.steps)
            if step is not None:
                slices = with_stage(slices, step, self._spec.stage_slices)
        return make_counted(
            slices=slices,
            cell=cell_of(exchange.key),
            request_id=exchange.request_id,
            body_bytes=len(exchange.body),
            production_us=exchange.live.duration_us if exchange.live is not None else 0,
        )

    def _side_of(self, waiting: Waiting, exchange: MirroredRequest, role: str) -> Graded:
        """A role's answer as graders see it: the worker's record, else the live exchange."""
        answer = waiting.answers.get(role)
        if answer is not None:
            return graded_of_answer(answer, exchange)
        return graded_of_live(exchange, role, waiting.outcome_of(role), self._spec.price.get(role, _NO_PRICE))
