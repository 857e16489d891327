"""Processes that go on after a decision: nobody is asked any more, and the next run is found."""

from __future__ import annotations

import json

from shadow.cli.begin import runs_of, transactional_id
from tests.flow.harness import send, wait_until
from tests.flow.machine import Machine


def decisions(machine: Machine) -> list[tuple[int, str]]:
    """(attempt, stage) of every run so far."""
    writer = machine.log.decisions(machine.settings.topics.decisions, transactional_id(machine.settings))
    try:
        return [(run.started.attempt, run.stage) for run in runs_of(writer)]
    finally:
        writer.close()


def test_processes_leave_a_decided_run_and_find_the_next_one(tmp_path, kafka, redis_server):
    """
    After a promotion every process waits, without a restart, and the second attempt is answered, counted and decided.
    """
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, pairs=200) as machine:
        machine.start()
        machine.await_serving()
        send(machine.ports["proxy"], 400)
        wait_until(lambda: decisions(machine) == [(1, "done")], "the first decision")
        for role in ("worker", "comparator", "gate"):
            log = tmp_path / f"{role}.log"
            wait_until(lambda log=log: "has ended" in log.read_text(), f"the {role} leaves the run")
        second = machine.run("start", "--unsafe", "-o", "json")
        assert {"attempt": 2, "is_new": True} == {
            key: value for key, value in json.loads(second.stdout).items() if key != "run"
        }
        send(machine.ports["proxy"], 400, first=1000)
        wait_until(lambda: decisions(machine) == [(1, "done"), (2, "done")], "the second decision")
        machine.supervisor.check()
