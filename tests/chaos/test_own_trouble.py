"""Five minutes of Shadow's own trouble, in compressed time: the verdict is the one that it would have been."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shadow.cli.demo import wait_for_ports
from shadow.records.decisions import HOLD, PROMOTE
from tests.chaos.offline import judged_offline
from tests.chaos.test_workers_stopped import late_of
from tests.flow.harness import send, wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

WRONG_EVERY = 150
"""Even numbers of which the candidate answers one wrongly, which no rule minds."""
OURS = ("worker", "comparator")


@dataclass(frozen=True, slots=True)
class Trouble:
    """How many requests come before, during and after it, and whether it is over before their deadline is."""

    before: int
    during: int
    after: int
    deadline: str
    is_short: bool

    @property
    def counted(self) -> list[int]:
        """Numbers of the requests that end as pairs."""
        lost = range(0) if self.is_short else range(self.before, self.before + self.during)
        return [number for number in range(self.before + self.during + self.after) if number not in lost]

    def policy(self, tree: dict[str, Any]) -> None:
        """A policy that is decided by every pair, and not by those before the trouble."""
        stage = tree["stages"]["shadow"]
        stage["needs"] |= {"pairs": len(self.counted), "slice_pairs": 100}
        stage["rules"] = [
            {"quality": {"graders": {"correct": 1.0}, "margin": 0.1}},
            {"no_regression": {"slice": "even", "grader": "correct", "margin": 0.1, "strict": True}},
            {"floor": {"grader": "tagged", "min": 0.9}},
        ]

    def rule_counts(self) -> dict[str, dict[str, int]]:
        """Grades of `correct` by slice, as they are where nothing is in trouble."""
        even = [number for number in self.counted if number % 2 == 0]
        wrong = sum(number % (2 * WRONG_EVERY) == 0 for number in even)
        return {
            name: {"both": len(of) - wrong, "production_only": wrong, "candidate_only": 0, "neither": 0}
            for name, of in (("all", self.counted), ("even", even))
        }


SHORT = Trouble(before=150, during=60, after=390, deadline="2m", is_short=True)
LONG = Trouble(before=101, during=3, after=499, deadline="15s", is_short=False)
"""Five minutes are 0.35 % of a day; three of 603 requests are 0.5 %, and one of the 302 even ones is less."""


@pytest.fixture
def durable() -> Iterator[RedisServer]:
    """A store of the test's own, which is killed and comes back with its data."""
    with RedisServer(is_durable=True) as server:
        yield server


def view_of(machine: Machine) -> dict[str, Any]:
    """What `shadow status` says."""
    view: dict[str, Any] = json.loads(machine.run("status", "-o", "json").stdout)
    return view


def begun(machine: Machine, requests: int) -> None:
    """Start everything, and wait until the first requests are paired."""
    machine.start()
    wait_for_ports(machine.ports.values(), machine.supervisor)
    wait_until(lambda: all(machine.head(each) for each in range(PARTITIONS)), "the first checkpoint")
    assert {200: requests} == send(machine.ports["proxy"], requests)
    wait_until(lambda: machine.classes()["paired"] == requests, "the first requests are paired")


def troubled(machine: Machine, store: RedisServer, trouble: Trouble) -> None:
    """Worker, comparator and store are gone while requests come, and the worker comes back last."""
    machine.supervisor.stop(OURS)
    store.kill()
    assert {200: trouble.during} == send(machine.ports["proxy"], trouble.during, first=trouble.before)
    store.restart()
    machine.start_role("comparator")
    if not trouble.is_short:
        wait_until(lambda: machine.classes()["missing"] == trouble.during, "their deadline is over")
        wait_until(lambda: "coverage" in unmet(view_of(machine)), "coverage holds the gate")
    machine.start_role("worker")


def unmet(view: dict[str, Any]) -> set[str]:
    """Conditions that hold the run; no rule may fail meanwhile."""
    judgement = view["judgement"]
    assert (None, HOLD) == (view["decision"], judgement["decision"])
    assert "FAIL" not in {rule["verdict"] for rule in judgement["rules"]}
    return {each["condition"] for each in judgement["conditions"] if not each["met"]}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("trouble", [SHORT, LONG], ids=["within-the-deadline", "past-the-deadline"])
def test_our_own_trouble_changes_no_verdict(
    tmp_path: Path, kafka: ApacheKafka, durable: RedisServer, trouble: Trouble
) -> None:
    """
    Worker, comparator and store are gone for a while: no rule fails, and the good candidate is promoted with the
    counts that it would have had. What the trouble outlasted is missing and late, and holds by coverage until then.
    """
    candidate = [sys.executable, "-m", "tests.flow.doubling", "--wrong-every", str(WRONG_EVERY)]
    with Machine(
        tmp_path,
        kafka.bootstrap,
        durable.url,
        evidence_deadline=trouble.deadline,
        candidate=candidate,
        change=trouble.policy,
    ) as machine:
        begun(machine, trouble.before)
        troubled(machine, durable, trouble)
        lost = 0 if trouble.is_short else trouble.during
        done = trouble.before + trouble.during
        wait_until(lambda: (machine.classes()["paired"], late_of(machine)) == (done - lost, lost), "all is answered")
        unmet(view_of(machine))
        assert {200: trouble.after} == send(machine.ports["proxy"], trouble.after, first=done)
        wait_until(lambda: machine.decision() is not None, "a decision", 120)
        decision = machine.decision()
        assert decision is not None
        assert (PROMOTE, decision.tiles_digest) == judged_offline(machine, decision.tile)
        slices = json.loads(decision.evidence)["evidence"]["slices"]
        assert PROMOTE == decision.decision
        assert trouble.rule_counts() == {name: slices[name]["graders"]["correct"] for name in ("all", "even")}
        assert lost == machine.classes()["missing"]
        machine.supervisor.check()
