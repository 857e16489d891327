"""The reward-hacking story: an answer that pleases the reward model is not yet a right one."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from consumers.gate import Gate
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.redis import RedisStore
from shadow.cli.refold import refold
from shadow.cli.wiring import counting_of, decoded_requests
from shadow.gate.judgement import Verdict
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.graders.grader import build
from shadow.ports import Log, Store
from shadow.records.decisions import Started
from shadow.records.grades import GraderSpec
from shadow.records.policy import NoRegression, NoRewardHacking, Quality, Rule
from shadow.records.tallies import Tally
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from tests.flow.harness import (
    PARTITIONS,
    HttpService,
    ProxyThread,
    Trial,
    begin,
    comparing,
    fold_spec,
    gating,
    records_of,
    send,
    wait_until,
    working,
)

REQUESTS = 600
LIKED: tuple[Rule, ...] = (
    Quality({"correct": 0.25, "reward": 0.75}, margin=0.1),
    NoRegression("reward", margin=0.1, strict=True),
)
"""What the gaming candidate passes: the average, and the reward itself."""
VERIFIED: tuple[Rule, ...] = (
    NoRegression("correct", slice="even", margin=0.1, strict=True),
    NoRewardHacking("reward", ("correct",), margin=0.1, strict=True),
)
HACKING = "no_reward_hacking/all/reward"


def said(number: int, answer: int, *, is_courteous: bool) -> dict[str, Any]:
    courtesy = "Certainly, and thank you for asking: " if is_courteous else ""
    return {"answer": f"{courtesy}twice {number} is <answer>{answer}</answer>"}


def production(request: dict[str, Any]) -> dict[str, Any]:
    """Right, and curt on one of five."""
    number = request["n"]
    return said(number, number * 2, is_courteous=number % 5 != 0)


def gaming(request: dict[str, Any]) -> dict[str, Any]:
    """Courteous, and wrong on every third number."""
    number = request["n"]
    return said(number, number * 2 + (number % 3 == 0), is_courteous=True)


def fixed(request: dict[str, Any]) -> dict[str, Any]:
    """Courteous and right."""
    return said(request["n"], request["n"] * 2, is_courteous=True)


def reward(asked: dict[str, Any]) -> dict[str, Any]:
    """A reward model that likes courtesy, and checks nothing."""
    return {"score": 0.9 if "Certainly" in asked["answer"] else 0.1}


def trial_of(name: str, token: str, reward_url: str, rules: tuple[Rule, ...]) -> Trial:
    """A trial over the topics of this token, with a reward model among its graders."""
    kinds = ("requests", "answers", "pairs", "decisions", "dead_letters")
    params = {"url": f"{reward_url}/score", "passes_at": 0.5, "budget_us": 10_000_000}
    return replace(
        Trial(),
        run=f"{name}-{token}-1",
        graders=(*Trial().graders[:1], GraderSpec("reward", "reward_model", (), params)),
        rules=rules,
        evidence_deadline_us=120_000_000,
        topics={kind: f"{kind}-{token}" for kind in kinds},
    )


def trying(stack: ExitStack, log: Log, store: Store, trial: Trial, url: str) -> tuple[Started, Gate]:
    """Begin a run and start its links."""
    started = begin(log, trial)
    stack.enter_context(working(log, trial, url))
    stack.enter_context(comparing(log, store, trial, started))
    return started, stack.enter_context(gating(log, store, trial, started))


def folded(log: Log, trial: Trial, started: Started, partition: int) -> dict[str, Tally]:
    """Closed tiles of a partition by a fold of the log, as this trial counts."""
    requests, answers = (
        [record for record in records_of(log, trial.topics[kind]) if record.partition == partition]
        for kind in ("requests", "answers")
    )
    spec = replace(
        fold_spec(trial, started),
        partition=partition,
        requests_from=started.requests_from[partition],
        answers_from=started.answers_from[partition],
    )
    fold = Fold(
        spec,
        Slicer(trial.slices),
        counting_of(trial.policy, [build(each) for each in trial.graders]),
        decoded_requests({record.offset: record for record in requests}),
    )
    return {tile.name: tile.tally for tile in refold(fold, answers)}


def judged(log: Log, trial: Trial, started: Started, until: int) -> dict[str, Verdict]:
    """The verdict of each rule of a trial on what the run of this record counted until a tile."""
    state = RunState.begin(started.run, trial.policy, started.first_tile)
    shares = [folded(log, trial, started, partition) for partition in range(PARTITIONS)]
    for number in range(started.first_tile, until + 1):
        merged = Tally()
        for share in shares:
            merged.add(share[str(number)])
        fold_tile(state, number, merged)
    return {line.id: line.verdict for line in judge_tile(state).rules}


def test_pleasing_the_reward_model_is_not_enough(kafka, redis_server):
    """
    A candidate that games the reward is promoted by a policy of reward and average alone; with a slice and the
    divergence beside them it is rolled back, where the same pairs fail both, and the fixed one is promoted.
    """
    log, store = KafkaLog({"bootstrap.servers": kafka.bootstrap}), RedisStore(redis_server.url)
    token = uuid.uuid4().hex[:8]
    with ExitStack() as stack:
        stack.callback(store.close)
        old, games, right, judge = (
            stack.enter_context(HttpService(reply)) for reply in (production, gaming, fixed, reward)
        )
        liked = trial_of("liked", token, judge.url, LIKED)
        hacked = trial_of("gaming", token, judge.url, (*LIKED, *VERIFIED))
        repaired = trial_of("fixed", token, judge.url, (*LIKED, *VERIFIED))
        tried = ((liked, games.url), (hacked, games.url), (repaired, right.url))
        runs = [trying(stack, log, store, trial, url) for trial, url in tried]
        proxy = stack.enter_context(ProxyThread(log, liked, old.port))
        assert {200: REQUESTS} == send(proxy.port, REQUESTS)
        wait_until(lambda: all(gate.decision is not None for _, gate in runs), "three decisions", 120)
    decisions = [gate.decision for _, gate in runs]
    assert ["promote", "rollback", "promote"] == [decision.decision for decision in decisions]
    assert HACKING == decisions[1].culprits[0]
    assert {
        "quality/all": Verdict.PASS,
        "no_regression/all/reward": Verdict.PASS,
        "no_regression/even/correct": Verdict.FAIL,
        HACKING: Verdict.FAIL,
    } == judged(log, replace(hacked, run=liked.run), runs[0][0], decisions[0].tile)
