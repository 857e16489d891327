"""The stages in which the candidate serves live requests, on real services, as processes."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from shadow.adapters.content import request_in
from shadow.cli.begin import runs_of, transactional_id
from tests.flow.harness import records_of, wait_until
from tests.flow.machine import Machine
from tests.flow.traffic import Traffic

DOUBLING = [sys.executable, "-m", "tests.flow.doubling"]


def wide_rules():
    """Rules that some dozens of pairs prove."""
    return [{"quality": {"graders": {"correct": 1.0}, "margin": 0.3}}, {"floor": {"grader": "tagged", "min": 0.05}}]


def staged(tree, *, watch_for="1d", canary_needs=None):
    """Two canary steps and a watch whose rules 100 pairs can prove."""
    tree["stages"]["shadow"]["rules"] = wide_rules()
    needs = {"pairs": 100, "within": "1h", "coverage": 0.98, **(canary_needs or {})}
    tree["stages"]["canary"] = {"steps": [0.3, 0.6], "needs": needs, "rules": wide_rules()}
    url = tree["proxy"]["upstream"]
    rules = [{"no_regression": {"grader": "correct", "slice": "even", "margin": 0.05}}]
    tree["stages"]["watch"] = {"production_url": url, "sample": 0.5, "for": watch_for, "rules": rules}


def machine_of(tmp_path, kafka, redis_server, *, candidate=(), beside=None, **stages):
    return Machine(
        tmp_path,
        kafka.bootstrap,
        redis_server.url,
        pairs=200,
        evidence_deadline="5s",
        deadline="4s",
        candidate=[*DOUBLING, *candidate],
        change=lambda tree: staged(tree, **stages),
        beside=beside,
    )


def decisions_of(machine):
    """The run's decisions so far, in their order."""
    writer = machine.log.decisions(machine.settings.topics.decisions, transactional_id(machine.settings))
    try:
        return next(run.decisions for run in runs_of(writer) if run.name == machine.started.run)
    finally:
        writer.close()


def stages_of(decisions):
    """(from, to) of each decision."""
    return [(decision.from_stage, decision.to_stage) for decision in decisions]


def await_decisions(machine, count):
    """Wait until so many decisions were taken."""
    try:
        wait_until(lambda: len(decisions_of(machine)) >= count, f"decision {count}", 120)
    except AssertionError as error:
        logs = [f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(machine.folder.glob("*.log"))]
        raise AssertionError("\n".join([str(error), machine.run("explain").stdout, *logs])) from error


def served(machine):
    """Live requests by the step of the run under which they were routed, and who served them."""
    steps = machine.settings.policy().live_steps_of(machine.started.run)
    found: Counter[tuple[str, str]] = Counter()
    for record in records_of(machine.log, machine.settings.topics.requests):
        live = request_in(record).live
        step = steps.get(live.decision_id or "")
        found[step.name if step else "", live.role] += 1
    return found


def test_good_candidate_goes_through_canary_and_watch(tmp_path, kafka, redis_server):
    """
    An equal candidate gets 30 %, then 60 % of the sessions, then all of them, and is done after its watch; production
    answers what it served, and a replay recomputes every decision.
    """
    with machine_of(tmp_path, kafka, redis_server, watch_for="6s") as machine:
        machine.start()
        machine.await_serving()
        with Traffic(machine.ports["proxy"], rate=100) as traffic:
            await_decisions(machine, 4)
        decisions, replay = decisions_of(machine), machine.run("replay")
        by_step = served(machine)

    way = [("shadow", "canary"), ("canary", "canary"), ("canary", "watch"), ("watch", "done")]
    assert way == stages_of(decisions)
    assert ["promote"] * 4 == [decision.decision for decision in decisions]
    assert [0.3, 0.6, 1.0, 1.0] == [decision.routing.share for decision in decisions]
    assert {200} == traffic.statuses.keys()
    # A candidate that cannot be reached within a second, on a busy machine, falls back.
    assert by_step["watch", "production"] <= 0.02 * by_step["watch", "candidate"]
    for step, share in (("canary-1", 0.3), ("canary-2", 0.6)):
        candidate, production = by_step[step, "candidate"], by_step[step, "production"]
        # Sessions are drawn independently: five standard errors of a share.
        tolerance = 5 * (share * (1 - share) / (candidate + production)) ** 0.5
        assert share == pytest.approx(candidate / (candidate + production), abs=tolerance)
    assert 0 == replay.returncode, replay.stdout + replay.stderr


def test_candidate_that_fails_only_live_is_rolled_back_from_canary(tmp_path, kafka, redis_server):
    """
    A candidate that is right for the workers and wrong for users is rolled back in its first step, and production
    serves everything again.
    """
    flags = ("--wrong-every", "1", "--wrong-live")
    with machine_of(tmp_path, kafka, redis_server, candidate=flags) as machine:
        machine.start()
        machine.await_serving()
        with Traffic(machine.ports["proxy"], rate=100) as traffic:
            await_decisions(machine, 2)
            before = served(machine)
            traffic.more(600)
        decisions, replay = decisions_of(machine), machine.run("replay")
        after = served(machine)

    assert [("shadow", "canary"), ("canary", "rolled_back")] == stages_of(decisions)
    assert "rollback" == decisions[-1].decision
    assert None is decisions[-1].routing
    assert {200} == traffic.statuses.keys()
    # What was under way when the decision was read may still have gone to the candidate: a quarter of a second's.
    assert after["canary-1", "candidate"] - before["canary-1", "candidate"] < 200
    assert 300 < after["", "production"] - before["", "production"]
    assert 0 == replay.returncode, replay.stdout + replay.stderr


def test_candidate_that_turns_bad_after_its_promotion_is_rolled_back_from_watch(tmp_path, kafka, redis_server):
    """
    A candidate that becomes wrong once it serves everything is rolled back by what the former version still answers.
    """
    switch = tmp_path / "bad"
    flags = ("--wrong-every", "1", "--wrong-while", str(switch))
    with machine_of(tmp_path, kafka, redis_server, candidate=flags) as machine:
        machine.start()
        machine.await_serving()
        with Traffic(machine.ports["proxy"], rate=100):
            await_decisions(machine, 3)
            switch.touch()
            await_decisions(machine, 4)
        decisions, replay = decisions_of(machine), machine.run("replay")

    assert ["canary", "canary", "watch", "rolled_back"] == [decision.to_stage for decision in decisions]
    assert "rollback" == decisions[-1].decision
    assert ("no_regression/watch/even/correct",) == decisions[-1].culprits
    assert 0 == replay.returncode, replay.stdout + replay.stderr


def test_only_one_of_two_candidates_has_live_traffic(tmp_path, kafka, redis_server):
    """
    Of two proven candidates over one stream one is in canary, and the other one waits and says for whom; once a person
    has rolled the first one back, the second one is routed to.
    """
    pending = {"pairs": 1_000_000}
    names = ("first", "second")
    for name in names:
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        first = stack.enter_context(machine_of(tmp_path / "first", kafka, redis_server, canary_needs=pending))
        second = stack.enter_context(
            machine_of(tmp_path / "second", kafka, redis_server, canary_needs=pending, beside=first)
        )
        for machine in (first, second):
            machine.start()
        for machine in (first, second):
            machine.await_serving()
        with Traffic(first.ports["proxy"], rate=100) as traffic:
            wait_until(lambda: decisions_of(first) or decisions_of(second), "one is in canary", 240)
            live, waiting = (first, second) if decisions_of(first) else (second, first)
            told = f"{live.started.run} has live traffic, and only one candidate may"
            wait_until(lambda: told in waiting.run("explain", "-o", "json").stdout, told, 240)
            assert not decisions_of(waiting)
            order = live.run("rollback", "--reason", "the other one is to be tried", "--by", "a test")
            assert 0 == order.returncode, order.stderr
            await_decisions(waiting, 1)
            traffic.more(600)
        by_step = {machine: served(machine) for machine in (live, waiting)}
        decisions = {machine: decisions_of(machine) for machine in (live, waiting)}

    assert [("shadow", "canary"), ("canary", "rolled_back")] == stages_of(decisions[live])
    assert [("shadow", "canary")] == stages_of(decisions[waiting])
    assert all(0 < by_step[machine]["canary-1", "candidate"] for machine in (live, waiting))
    assert {200} == traffic.statuses.keys()
