"""Time-outs of the candidate are its failures: they fail rules, by name, and never the coverage."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import orjson

from shadow.adapters.kafka import KafkaLog
from shadow.adapters.redis import RedisStore
from shadow.gate.judgement import Judgement, Verdict
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.records.answers import EXPIRED, TIMEOUT, Tick
from shadow.records.decisions import HOLD, ROLLBACK
from shadow.records.grades import GraderSpec
from shadow.records.policy import NoRegression, Policy, Quality, StagePolicy
from tests.flow.harness import (
    HttpService,
    ProxyThread,
    Trial,
    begin,
    comparing,
    doubled,
    gating,
    send,
    wait_until,
    working,
)
from tests.stream.builders import CORRECT, RUN, SECOND, SPEC, AnswersLog, answer, fold_of, request

REQUESTS = 2000
PER_TILE = 250
LATE = {number for number in range(1, REQUESTS + 1) if number * 3 // 100 > (number - 1) * 3 // 100}
"""3 % of the requests, evenly spread."""
GRADERS = (CORRECT, GraderSpec("short", "concise", (), {"max_chars": 100}))
RULES = (
    Quality({"correct": 1.0}, margin=0.1),
    NoRegression("correct", strict=True),
    NoRegression("short", strict=True),
)
BLAMED = ("no_regression/all/correct", "no_regression/all/short")


def judged(outcome: str) -> Judgement:
    """What the gate says where the candidate's answer to 3 % of the requests has this outcome."""
    requests = {number - 1: request(number, text="nothing") for number in range(1, REQUESTS + 1)}
    fold, log = fold_of(requests, graders=GRADERS, rules=RULES), AnswersLog()
    for offset, each in requests.items():
        at_us = (offset // PER_TILE) * SPEC.tile_us + SECOND
        is_late = offset + 1 in LATE
        content = answer(
            each, offset, at_us, outcome=outcome if is_late else "answered", body=b"" if is_late else b"right"
        )
        log.append(content, at_us)
        if (offset + 1) % PER_TILE == 0:
            tile = offset // PER_TILE
            log.append(Tick(RUN, tile, offset + 1), (tile + 1) * SPEC.tile_us)
    policy = Policy((StagePolicy("shadow", replace(Trial().needs, pairs=1000), RULES),), tile_us=SPEC.tile_us)
    state = RunState.begin(RUN, policy, 0)
    for record, content in log.records:
        for closed in fold.apply(record, content).closed:
            fold_tile(state, closed.number, closed.tally)
    assert REQUESTS // PER_TILE - 1 == state.folded
    return judge_tile(state)


def test_time_outs_fail_the_graders_that_they_missed():
    """
    3 % of time-outs: every request is paired, coverage holds nothing, and the rules of the graders fail by name.
    """
    judgement = judged(TIMEOUT)
    assert (ROLLBACK, BLAMED) == (judgement.decision, tuple(sorted(judgement.culprits)))
    assert all(condition.is_met for condition in judgement.conditions)
    assert dict.fromkeys(BLAMED, Verdict.FAIL) == {
        line.id: line.verdict for line in judgement.rules if line.verdict == Verdict.FAIL
    }


def test_answers_that_we_lost_fail_nothing():
    """
    As many requests that Shadow itself let expire lower the coverage, which holds, and no rule fails.
    """
    judgement = judged(EXPIRED)
    assert HOLD == judgement.decision
    assert ["coverage"] == sorted({each.name for each in judgement.conditions if not each.is_met})
    assert {Verdict.PASS} == {line.verdict for line in judgement.rules}


async def slow_on_some(asked: dict[str, Any]) -> dict[str, Any]:
    """Right, and on 3 % of the requests much later than any deadline."""
    if asked["n"] + 1 in LATE:
        await asyncio.sleep(3)
    return doubled(asked)


def test_time_outs_on_real_services(kafka, redis_server):
    """
    The same from live requests to the decision: rolled back by both graders, with a coverage of all requests.
    """
    log, store = KafkaLog({"bootstrap.servers": kafka.bootstrap}), RedisStore(redis_server.url)
    token = uuid.uuid4().hex[:8]
    trial = Trial(
        run=f"slow-{token}-1",
        rules=(NoRegression("correct", strict=True), NoRegression("tagged", strict=True)),
        topics={kind: f"{kind}-{token}" for kind in ("requests", "answers", "pairs", "decisions", "dead_letters")},
        evidence_deadline_us=120_000_000,
    )
    with HttpService(doubled) as production, HttpService(slow_on_some) as candidate:
        started = begin(log, trial)
        with (
            ProxyThread(log, trial, production.port) as proxy,
            working(log, trial, candidate.url, deadline_us=1_000_000),
            comparing(log, store, trial, started),
            gating(log, store, trial, started) as gate,
        ):
            assert {200: 600} == send(proxy.port, 600)
            wait_until(lambda: gate.decision is not None, "a decision", 120)
    store.close()
    decision = gate.decision
    assert (ROLLBACK, {"no_regression/all/correct", "no_regression/all/tagged"}) == (
        decision.decision,
        set(decision.culprits) - {"joint evidence"},  # which of the two fails alone first depends on the tiles
    )
    evidence = orjson.loads(decision.evidence)["evidence"]["slices"]["all"]
    both, production_only, candidate_only, neither = (
        evidence["graders"]["correct"][name] for name in ("both", "production_only", "candidate_only", "neither")
    )
    assert (1.0, 0, 0) == (evidence["coverage"], candidate_only, neither)
    assert evidence["pairs"] == both + production_only
