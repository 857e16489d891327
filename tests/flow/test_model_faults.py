"""A candidate that breaks HTTP in every way: each request still ends as a pair, and nothing of Shadow dies."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shadow.adapters.avro import decode
from shadow.cli.demo import wait_for_ports
from shadow.records.answers import ANSWERED, ERROR, TIMEOUT, Answer
from tests.flow.faulty import FAULTS, fault_of
from tests.flow.harness import records_of, send, wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

REQUESTS = 400
EVERY = 40
OUTCOMES = {"garbage": ERROR, "noise": ANSWERED, "close": ERROR, "cut": ERROR, "hang": TIMEOUT, "500": ERROR}


def candidate_outcomes(machine: Machine) -> dict[int, str]:
    """Outcome of the candidate's answer by the number that was asked; each has exactly one."""
    found: dict[int, str] = {}
    for record in records_of(machine.log, machine.settings.topics.answers):
        answer = decode(record.value)
        if isinstance(answer, Answer) and answer.role == "candidate":
            assert answer.exchange is not None
            number = json.loads(answer.exchange.body)["n"]
            assert number not in found
            assert (answer.error is None) == (answer.outcome == ANSWERED)
            found[number] = answer.outcome
    return found


def test_a_broken_candidate_is_evidence(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    Garbage instead of HTTP, noise as a body, early closes, half answers, hangs and 500s: every one of 400 requests is
    a pair, the faults are the candidate's failed grades, the worker is the same process, and a refold agrees.
    """
    faults = [argument for fault in FAULTS for argument in ("--fault", fault)]
    candidate = [sys.executable, "-m", "tests.flow.faulty", "--every", str(EVERY), *faults]
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, deadline="1s", candidate=candidate) as machine:
        machine.start()
        wait_for_ports(machine.ports.values(), machine.supervisor)
        wait_until(lambda: all(machine.head(partition) for partition in range(PARTITIONS)), "the first checkpoint")
        worker = machine.pid("worker")
        statuses = send(machine.ports["proxy"], REQUESTS)
        machine.supervisor.stop(["proxy"])  # drains, and writes the last reports
        machine.settle()
        machine.supervisor.check()
        assert worker == machine.pid("worker")
        machine.supervisor.stop()
        for partition in range(PARTITIONS):
            assert machine.offline(partition) == machine.stored(partition)
        classes = machine.classes()
        outcomes = candidate_outcomes(machine)
        pairs = [decode(record.value) for record in records_of(machine.log, machine.settings.topics.pairs)]
    assert {200: REQUESTS} == statuses
    assert (REQUESTS, REQUESTS) == (classes["paired"], sum(classes.values()))
    assert set(range(REQUESTS)) == set(outcomes)
    assert {ANSWERED, ERROR, TIMEOUT} == set(outcomes.values())
    expected = {number: fault_of(number, EVERY, FAULTS) for number in range(REQUESTS)}
    met = {number: fault for number, fault in expected.items() if fault}
    assert {number: OUTCOMES[fault] for number, fault in met.items()} == {number: outcomes[number] for number in met}
    grades = {json.loads(pair.request_body)["n"]: pair.grades for pair in pairs}
    assert set(range(REQUESTS)) == set(grades)
    for number in met:
        for grader in ("correct", "tagged"):
            assert ("failed", "passed") == tuple(
                grades[number][grader][role].outcome for role in ("candidate", "production")
            )
    right = [number for number, outcome in outcomes.items() if number not in met and outcome == ANSWERED]
    assert all(grades[number]["correct"]["candidate"].outcome == "passed" for number in right)
