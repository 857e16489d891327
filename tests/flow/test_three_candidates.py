"""Three candidates at once over one stream: each has its own verdict, and the integers that it has alone."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shadow.gate.history import PROMOTED_ELSEWHERE
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.records.decisions import EXPIRE, HOLD, PROMOTE, ROLLBACK, Decision, Started
from shadow.records.log import LogRecord
from shadow.records.tallies import Tally
from tests.flow.harness import records_of, send, wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

MARGIN = 0.1
WRONG_EVERY = {"good": 0, "bad": 2, "doubtful": 10}
"""Each one's first wrong answer among so many even numbers: none, half of them, and as many as the margin allows."""
REQUESTS = 800


def judging(tree: dict[str, Any]) -> None:
    """A policy that the first requests decide, and a worker of production, which answers for all runs."""
    tree["workers"]["production"] = {"url": tree["proxy"]["upstream"]}
    stage = tree["stages"]["shadow"]
    stage["needs"] |= {"pairs": 300}
    stage["rules"] = [
        {"quality": {"graders": {"correct": 1.0}, "margin": MARGIN}},
        {"no_regression": {"slice": "even", "grader": "correct", "margin": MARGIN}},
        {"floor": {"grader": "tagged", "min": 0.9}},
    ]


@pytest.fixture
def trials(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> Iterator[dict[str, Machine]]:
    """A machine for each candidate; proxy, production and topics are the first one's."""
    found: dict[str, Machine] = {}
    with ExitStack() as stack:
        for name, wrong_every in WRONG_EVERY.items():
            (tmp_path / name).mkdir()
            candidate = [sys.executable, "-m", "tests.flow.doubling", "--wrong-every", str(wrong_every)]
            machine = Machine(
                tmp_path / name,
                kafka.bootstrap,
                redis_server.url,
                evidence_deadline="2m",
                candidate=candidate,
                change=judging,
                beside=found.get("good"),
            )
            found[name] = stack.enter_context(machine)
        yield found


Records = list[list[LogRecord]]
"""Records of a topic by partition."""


def by_partition(machine: Machine, topic: str) -> Records:
    """All records of a topic."""
    records = records_of(machine.log, topic)
    return [[each for each in records if each.partition == partition] for partition in range(PARTITIONS)]


def whole(started: Started, answers: Records) -> tuple[Started, Records]:
    """How the run began, and the answers of each partition from there on."""
    return started, [
        [each for each in records if each.offset >= first]
        for first, records in zip(started.answers_from, answers, strict=True)
    ]


def alone(started: Started, partitions: Records) -> tuple[Started, Records]:
    """The same log as it would be without the other runs: their records left out, the offsets without holes."""
    kept = []
    for records in partitions:
        own = [each for each in records if each.headers.get("run", b"*") in (b"*", started.run.encode())]
        assert 0 < len(own) < len(records)
        kept.append([dataclasses.replace(each, offset=offset) for offset, each in enumerate(own)])
    return dataclasses.replace(started, answers_from=(0,) * PARTITIONS), kept


def counted(machine: Machine, started: Started, answers: Records, requests: Records) -> list[dict[str, bytes]]:
    """Tallies of the closed tiles of each partition, by name."""
    folds = [machine.folded(started, each, answers[each], requests[each]) for each in range(PARTITIONS)]
    return [{tile.name: tile.tally.to_bytes() for tile in closed} for _, closed in folds]


def judged(machine: Machine, shares: list[dict[str, bytes]], until: int) -> tuple[RunState, str]:
    """The state after the first tile that decides, else after tile `until`, and what was judged there."""
    assert machine.started is not None
    policy, started = machine.settings.policy(), machine.started
    state, decision = RunState.begin(started.run, policy, started.first_tile, started.stage), HOLD
    for number in range(started.first_tile, until + 1):
        merged = Tally()
        for share in shares:
            merged.add(Tally.from_bytes(share[str(number)]))
        decision = judge_tile(fold_tile(state, number, merged)).decision
        if decision != HOLD:
            break
    return state, decision


def play(trials: dict[str, Machine]) -> dict[str, Decision]:
    """Start all three, send requests, and wait until all are decided."""
    first = trials["good"]
    for machine in trials.values():
        machine.start()
    first.start_role("worker-production")
    for machine in trials.values():
        machine.await_serving()
        wait_until(lambda m=machine: all(m.head(each) for each in range(PARTITIONS)), "the first checkpoint")
    assert {200: REQUESTS} == send(first.ports["proxy"], REQUESTS)
    wait_until(lambda: all(machine.decision() for machine in trials.values()), "three decisions", 240)
    for machine in trials.values():
        machine.supervisor.check()
    return {name: machine.decision() for name, machine in trials.items()}


@pytest.mark.timeout(900)  # fifteen processes on two cores
def test_three_candidates_over_one_stream(trials: dict[str, Machine]) -> None:
    """
    One is promoted, one rolled back, and one that is still held then ends undecided, since production is replaced; each
    run's tallies are, to the bit, those of a log that has its own records only; `shadow runs` lists all three, and a
    run that nobody knows is told from them.
    """
    decisions = play(trials)
    starts = {name: machine.started for name, machine in trials.items() if machine.started is not None}
    assert "no_regression/even/correct" in decisions["bad"].culprits
    outcomes = {"good": PROMOTE, "bad": ROLLBACK, "doubtful": EXPIRE}
    assert outcomes == {name: each.decision for name, each in decisions.items()}
    assert decisions["doubtful"].reason.startswith(f"{PROMOTED_ELSEWHERE} {starts['good'].run} was promoted: ")
    topics = trials["good"].settings.topics
    answers, requests = (by_partition(trials["good"], topic) for topic in (topics.answers, topics.requests))
    for name, machine in trials.items():
        until, digest = decisions[name].tile, decisions[name].tiles_digest
        log = whole(starts[name], answers)
        shares = counted(machine, *log, requests)
        assert shares == counted(machine, *alone(*log), requests)
        state, verdict = judged(machine, shares, until)
        alone_it_says = HOLD if name == "doubtful" else outcomes[name]
        assert (alone_it_says, until, digest) == (verdict, state.folded, state.tiles_digest.hex())
    unknown = trials["doubtful"].run("explain", "nosuch-run")
    assert (2, "", 1) == (unknown.returncode, unknown.stdout, unknown.stderr.count("\n"))
    assert all(started.run in unknown.stderr for started in starts.values())
    rows = json.loads(trials["bad"].run("runs", "-o", "json").stdout)
    stages = {"good": "done", "bad": "rolled_back", "doubtful": "expired"}
    assert [(starts[name].run, 1, stage) for name, stage in stages.items()] == [
        (row["run"], row["attempt"], row["stage"]) for row in rows
    ]
