"""Ask the models about a suite, and put their answers through the one fold, in this process and without services.

    suite ──► models of each role ──► Answer records, in the suite's order ──► fold ──► pairs with grades, one tile
                                                          ▲                    │
                                                          └── grades asked for ┘

The records are those of `shadow-answers`, encoded and decoded as there; only Kafka is not between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Final

from pydantic import SecretStr

from shadow.adapters.ask_http import AskPool
from shadow.adapters.avro import encode
from shadow.adapters.calls import Budget, Calls, Job, Limit
from shadow.cli import wiring
from shadow.cli.parts import budget_of, concurrency_of, model_of
from shadow.cli.refold import fold_record
from shadow.errors import BrokenEvidence, InvalidRecord, Unavailable
from shadow.graders.grader import Grader
from shadow.graders.guard import read_safely
from shadow.records.answers import ANSWERED, FAILURES, RecordedGrade, Tick
from shadow.records.comparisons import BASELINE, CANDIDATE, CANDIDATE_PRODUCTION, PRODUCTION, ROLES_BY_COMPARISON
from shadow.records.grades import Grade
from shadow.records.log import LogRecord
from shadow.records.pairs import GradedPair
from shadow.records.policy import Cost, Policy, StagePolicy
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest
from shadow.records.tallies import Tally
from shadow.settings.settings import Settings
from shadow.settings.workers import Worker
from shadow.stream.answer import answer_from_reply, without_reply
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import AskNow, Effects, FoldSpec
from shadow.suite.lines import SuiteRequest
from shadow.suite.repeat import GradeKey

TILE_US: Final = 86_400_000_000
SUITE_HEADER: Final = "x-shadow-suite"
"""Header with the suite's digest, for models that keep retrieval snapshots by it."""
PRODUCTION_FAILURES_MAX: Final = 0.02
"""Share of the suite that production may fail to answer; beyond it there is nothing to hold the candidate against."""
ASK_TRIES: Final = 3
REST_S: Final = 0.005
NAMED_MAX: Final = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Question:
    """One request of the suite: as the models get it, and as the graders see it."""

    asked: MirroredRequest
    graded: MirroredRequest


@dataclass(frozen=True, slots=True)
class Pass:
    """One run over the suite.

    Args:
        replies: By role, in the suite's order.
        pairs: By comparison and position in the suite.
        tallies: Of the one tile, by comparison.
    """

    replies: Mapping[str, Sequence[Reply]]
    pairs: Mapping[tuple[str, int], GradedPair]
    tallies: Mapping[str, Tally]

    def grades(self, stage: StagePolicy) -> dict[GradeKey, Grade]:
        """Every grade of every request, and what the stage's cost rules read."""
        found: dict[GradeKey, Grade] = {}
        bases = dict.fromkeys(rule.basis for rule in stage.rules if isinstance(rule, Cost))
        for (comparison, place), pair in sorted(self.pairs.items()):
            for grader, by_role in pair.grades.items():
                for role, grade in by_role.items():
                    found[comparison, pair.request_id, grader, role] = grade
            if comparison == CANDIDATE_PRODUCTION:
                for basis in bases:
                    for role in (PRODUCTION, CANDIDATE):
                        spent = _spent(self.replies[role][place], basis)
                        found[comparison, pair.request_id, f"cost {basis}", role] = Grade(str(spent))
        return found

    def costs(self, rule: Cost) -> list[float]:
        """(candidate - ratio x production) of the pairs that a cost rule counts."""
        values = []
        for (comparison, place), pair in sorted(self.pairs.items()):
            if comparison != CANDIDATE_PRODUCTION or rule.slice not in pair.slices:
                continue
            production, candidate = (self.replies[role][place] for role in (PRODUCTION, CANDIDATE))
            if production.outcome == candidate.outcome == ANSWERED:
                values.append(_spent(candidate, rule.basis) - rule.max_ratio * _spent(production, rule.basis))
        return values


def _spent(reply: Reply, basis: str) -> int:
    return reply.prompt_tokens + reply.completion_tokens if basis == "tokens" else reply.cost_micro


def questions_of(requests: Sequence[SuiteRequest]) -> list[Question]:
    """The suite's requests as records."""
    found = []
    for number, request in enumerate(requests, start=1):
        asked = request.asked(number)
        found.append(Question(asked, replace(asked, body=request.graded_body())))
    return found


class Asking:
    """The models of all roles that a stage's rules compare; they are kept over both runs, as their budgets are.

    Args:
        suite: Digest of the suite, told to the models in `x-shadow-suite`.
    """

    def __init__(self, settings: Settings, roles: Sequence[str], suite: str) -> None:
        self._stack = ExitStack()
        self._calls: dict[str, Calls] = {}
        told = _with_header(_with_production(settings), SUITE_HEADER, suite)
        versions = {CANDIDATE: settings.run.candidate}
        try:
            for role in roles:
                model = model_of(told, role)
                limit = Limit(*concurrency_of(told, role))
                budget = budget_of(told, role) or Budget()
                calls = Calls(model, role, versions.get(role, settings.run.production), limit, budget)
                self._stack.callback(calls.close)
                self._calls[role] = calls
        except BaseException:
            self._stack.close()
            raise

    def replies(self, questions: Sequence[Question], progress: Progress) -> dict[str, list[Reply]]:
        """Ask every model about every request, all roles at the same time; in the suite's order."""
        found: dict[str, dict[int, Reply]] = {role: {} for role in self._calls}
        for calls in self._calls.values():
            calls.submit([Job(place, question.asked) for place, question in enumerate(questions)])
        wanted = len(questions) * len(self._calls)
        while (done := sum(map(len, found.values()))) < wanted:
            for role, calls in self._calls.items():
                found[role].update(calls.finished())
            progress(done, wanted)
            time.sleep(REST_S)
        return {role: [replies[place] for place in range(len(questions))] for role, replies in found.items()}

    def close(self) -> None:
        """Close all models."""
        self._stack.close()


def _with_production(settings: Settings) -> Settings:
    """The settings with a model for production: its worker's, else what the proxy stands in front of."""
    worker = settings.workers.get(PRODUCTION)
    if worker is not None and worker.has_model:
        return settings
    known = (worker or Worker.model_validate({"deadline": f"{settings.workers[CANDIDATE].deadline_us}us"})).model_copy(
        update={"url": settings.proxy.upstream[0]}
    )
    return settings.model_copy(update={"workers": {**settings.workers, PRODUCTION: known}})


def _with_header(settings: Settings, name: str, value: str) -> Settings:
    """The settings with one more header on every worker's calls."""
    workers = {}
    for role, worker in settings.workers.items():
        headers = {**worker.rewrite.headers, name: SecretStr(value)}
        rewrite = worker.rewrite.model_copy(update={"headers": headers})
        workers[role] = worker.model_copy(update={"rewrite": rewrite})
    return settings.model_copy(update={"workers": workers})


def run_once(
    settings: Settings, stage: StagePolicy, run: str, asking: Asking, questions: Sequence[Question], progress: Progress
) -> Pass:
    """Ask, grade and count the suite once.

    Raises:
        BrokenEvidence: If a request has no pair, or one version hardly answers.
        Unavailable: If a grader's service does not answer.
    """
    replies = asking.replies(questions, progress)
    _refuse_silence(replies, questions)
    graders = wiring.graders_of(settings)
    bench = _Bench(settings, stage, run, graders, questions)
    for place, question in enumerate(questions):
        for role, of_role in replies.items():
            bench.answer(place, question, role, of_role[place])
    bench.ask({grader.name: grader for grader in graders})
    done = bench.close(replies)
    _refuse_holes(done, stage, questions)
    return done


class _Bench:
    """The one fold over records that are made here, one partition and one tile."""

    def __init__(
        self,
        settings: Settings,
        stage: StagePolicy,
        run: str,
        graders: Sequence[Grader],
        questions: Sequence[Question],
    ) -> None:
        policy = Policy(stages=(stage,), tile_us=TILE_US)
        graded = [question.graded for question in questions]
        spec = FoldSpec(
            run=run,
            partition=0,
            partitions=1,
            tile_us=TILE_US,
            first_tile=0,
            deadlines_us=dict.fromkeys(policy.comparisons, TILE_US),
            requests_from=0,
            answers_from=0,
            price=wiring.prices_of(settings),
        )
        self._run = run
        self._settings = settings
        self._end = len(graded)
        self._fold = Fold(
            spec,
            Slicer(settings.slice_specs()),
            wiring.counting_of(policy, graders),
            lambda offsets: {offset: graded[offset] for offset in offsets},
        )
        self._pairs: dict[tuple[str, int], GradedPair] = {}
        self._tallies: dict[str, Tally] = {}
        self._asks: list[AskNow] = []

    def answer(self, place: int, question: Question, role: str, reply: Reply) -> None:
        """Fold one role's answer to one request."""
        record = LogRecord("suite", 0, place, 0, question.graded.key.encode(), None)
        run = self._settings.run
        version = run.candidate if role == CANDIDATE else run.production
        made = answer_from_reply(reply, question.graded, record, run=self._run, role=role, version=version)
        try:
            value = encode(made)
        except InvalidRecord as error:
            value = encode(without_reply(made, f"the reply cannot be written down: {error}"))
        self._append(value)

    def _append(self, value: bytes, time_us: int = 0) -> None:
        state = self._fold.state
        effects: Effects = fold_record(
            self._fold, LogRecord("answers", 0, state.next, time_us, b"", value, {"run": self._run.encode()})
        )
        for pair in effects.pairs:
            self._pairs[pair.comparison, pair.request_offset] = pair
        for tile in effects.closed:
            self._tallies[tile.comparison] = tile.tally
        self._asks += effects.asks

    def ask(self, graders: Mapping[str, Grader]) -> None:
        """Put what graders ask for to their services, and fold the grades, in the order of the suite."""
        asks, self._asks = self._asks, []
        if not asks:
            return
        with closing(AskPool()) as pool:
            replies = _replies_of(pool, asks)
        for ask, reply in zip(asks, replies, strict=True):
            grade = read_safely(graders[ask.grader], reply)
            self._append(
                encode(
                    RecordedGrade(
                        run=self._run,
                        request_offset=ask.request_offset,
                        comparison=ask.comparison,
                        grader=ask.grader,
                        role=ask.role,
                        outcome=grade.outcome,
                        score=grade.score,
                        reason=grade.reason,
                    )
                )
            )

    def close(self, replies: Mapping[str, Sequence[Reply]]) -> Pass:
        """Close the tile; what is not paired by now never will be."""
        self._append(encode(Tick(self._run, 0, self._end)), TILE_US)
        return Pass(replies, self._pairs, self._tallies)


def _replies_of(pool: AskPool, asks: Sequence[AskNow]) -> list[bytes]:
    """The services' replies, each asked up to three times.

    Raises:
        Unavailable: If one gives none: a suite is judged with all its grades or not at all.
    """
    found: dict[int, bytes] = {}
    tries = dict.fromkeys(range(len(asks)), 1)
    for place, ask in enumerate(asks):
        pool.submit(ask.ask, place)
    while len(found) < len(asks):
        for place, reply, error in pool.finished():
            if reply is not None:
                found[place] = reply
            elif tries[place] < ASK_TRIES:
                tries[place] += 1
                pool.submit(asks[place].ask, place)
            else:
                raise Unavailable(f"grader {asks[place].grader}: {error} ({ASK_TRIES} tries), so nothing is judged")
        time.sleep(REST_S)
    return [found[place] for place in range(len(asks))]


def _refuse_silence(replies: Mapping[str, Sequence[Reply]], questions: Sequence[Question]) -> None:
    """Refuse a reference that fails, and a candidate that never answers: neither says anything about the candidate."""
    for role, of_role in replies.items():
        failed = [place for place, reply in enumerate(of_role) if reply.outcome in FAILURES]
        most = len(of_role) - 1 if role == CANDIDATE else int(PRODUCTION_FAILURES_MAX * len(of_role))
        if len(failed) > most:
            first = f"{questions[failed[0]].asked.request_id}: {of_role[failed[0]].error}"
            raise BrokenEvidence(
                f"{role} failed to answer {len(failed):,} of the suite's {len(of_role):,} requests, at most {most:,} "
                f"may fail, or nothing is compared; the first is {first}"
            )


def _refuse_holes(done: Pass, stage: StagePolicy, questions: Sequence[Question]) -> None:
    """Refuse a suite of which a request makes no pair: what is missing may be what is wrong."""
    told = []
    for comparison in Policy(stages=(stage,)).comparisons:
        for place, question in enumerate(questions):
            if (comparison, place) in done.pairs:
                continue
            roles = ROLES_BY_COMPARISON[comparison]
            why = [f"{role}: {reply.error}" for role in roles if (reply := done.replies[role][place]).error]
            told.append(f"{question.asked.request_id} ({'; '.join(why) or 'no evidence'})")
    if told:
        beyond = f", and {len(told) - NAMED_MAX:,} more" if len(told) > NAMED_MAX else ""
        raise BrokenEvidence(
            f"{len(told):,} of the suite's {len(questions):,} requests make no pair, and every one must: "
            f"{', '.join(told[:NAMED_MAX])}{beyond}"
        )


def roles_of(stage: StagePolicy) -> tuple[str, ...]:
    """Whom the stage's rules need: production and the candidate, and the baseline where one reads it."""
    needed = {role for name in Policy(stages=(stage,)).comparisons for role in ROLES_BY_COMPARISON[name]}
    return tuple(role for role in (PRODUCTION, CANDIDATE, BASELINE) if role in needed)
