"""Builders of records for tests of the stream: short calls, everything explicit that a test is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from shadow.graders.grader import Grader, build
from shadow.records.answers import Answer, AnswersRecord
from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.records.grades import GraderSpec
from shadow.records.log import LogRecord
from shadow.records.policy import Cap, Floor, Latency, NoRegression, NoRewardHacking, Quality, Rule
from shadow.records.requests import Live, MirroredRequest, Origin
from shadow.records.slices import SliceSpec
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, FoldSpec
from shadow.stream.tally import Tallier

SECOND = 1_000_000
RUN = "candidate-00000000-1"

SPEC = FoldSpec(
    run=RUN,
    partition=0,
    partitions=1,
    tile_us=10 * SECOND,
    first_tile=0,
    deadlines_us={CANDIDATE_PRODUCTION: 30 * SECOND},
    requests_from=0,
    answers_from=0,
)

SLICES = (SliceSpec("search", text="(?i)search"), SliceSpec("odd", json={"$.odd": True}))
CORRECT = GraderSpec("correct", "contains", (), {"any": ("right",)})
REWARD = GraderSpec(
    "reward", "reward_model", (), {"url": "http://127.0.0.1:1/score", "passes_at": 0.5, "budget_us": 10 * SECOND}
)
RULES: tuple[Rule, ...] = (
    Quality({"correct": 1.0}),
    NoRegression("correct", slice="search"),
    Cap("correct", max=0.2),
    Floor("correct", min=0.5),
    Latency(reference_us=1000),
)
HACK_RULES: tuple[Rule, ...] = (*RULES, NoRewardHacking("reward", ("correct",)))


def graders_of(*specs: GraderSpec) -> list[Grader]:
    return [build(spec) for spec in specs]


def counting(graders: Sequence[GraderSpec], rules: Sequence[Rule]) -> dict[str, Counting]:
    """The main comparison alone, with these graders and rules."""
    tallier = Tallier(rules, {grader.name: grader.slices for grader in graders})
    return {CANDIDATE_PRODUCTION: Counting(tuple(graders_of(*graders)), tallier)}


def fold_of(
    requests: dict[int, MirroredRequest],
    *,
    spec: FoldSpec = SPEC,
    graders: tuple[GraderSpec, ...] = (CORRECT,),
    rules: tuple[Rule, ...] = RULES,
    state: Any = None,
) -> Fold:
    """A fold whose requests topic is a dictionary by offset."""
    return Fold(
        spec,
        Slicer(SLICES),
        counting(graders, rules),
        lambda offsets: {offset: requests.get(offset) for offset in offsets},
        state=state,
    )


def request(
    number: int,
    *,
    text: str = "please search",
    key: str | None = None,
    live_body: bytes = b"right",
    u: float = 0.5,
    sample: float = 1.0,
    quotas: dict[str, float] | None = None,
    dropped: dict[str, int] | None = None,
    seen: int | None = None,
    duration_us: int = 500,
    live_outcome: str = "answered",
) -> MirroredRequest:
    """The mirrored request with this sequence number (1 for the first)."""
    body = orjson.dumps({"text": text, "odd": number % 2 == 1})
    live = Live("v1", "production", live_outcome, 200, {}, live_body, duration_us, duration_us)
    return MirroredRequest(
        request_id=f"request-{number}",
        key=key or f"key-{number}",
        event_time_us=number,
        method="POST",
        path="/v1/chat",
        headers={},
        body=body,
        u=u,
        sample=sample,
        quotas=quotas or {},
        origin=Origin("proxy", 1, number, seen if seen is not None else number, dropped or {}),
        live=live,
    )


def answer(
    exchange: MirroredRequest | None,
    offset: int,
    time_us: int,
    *,
    body: bytes = b"right",
    outcome: str = "answered",
    role: str = "candidate",
    run: str = RUN,
) -> Answer:
    """The answer of a role to the request at this offset, appended at `time_us`."""
    return Answer(
        run=run,
        request_partition=0,
        request_offset=offset,
        request_time_us=time_us,
        role=role,
        version="v2",
        outcome=outcome,
        status=200,
        headers={},
        body=body,
        started_us=time_us,
        first_byte_us=400,
        duration_us=400,
        exchange=exchange,
    )


class AnswersLog:
    """The answers partition of a test: appends records with offsets and append times, and keeps them."""

    def __init__(self) -> None:
        self.records: list[tuple[LogRecord, AnswersRecord | None]] = []

    def append(self, content: AnswersRecord | None, time_us: int) -> tuple[LogRecord, AnswersRecord | None]:
        record = LogRecord("shadow-answers", 0, len(self.records), time_us, b"", b"")
        self.records.append((record, content))
        return self.records[-1]


def without_live(exchange: MirroredRequest) -> MirroredRequest:
    return replace(exchange, live=None)
