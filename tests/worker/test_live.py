"""Who answers a live request that a candidate served: by the decision under which it was routed."""

from __future__ import annotations

from dataclasses import replace

from shadow.metrics import Metrics
from shadow.records.decisions import decision_id
from shadow.records.policy import LiveStep
from shadow.stream.answer import is_asked
from tests.worker.builders import RUN, HandModel, answers_of, memory_log, request, running, send, wait_until, worker_of

CANARY, WATCH, ANOTHERS = decision_id(RUN, 1), decision_id(RUN, 2), decision_id("another-1", 1)
STEPS = {CANARY: LiveStep("canary", "canary-1", 0.5), WATCH: LiveStep("watch", "watch", 1.0, 0.5)}


def routed(number, decision, *, role="candidate", failed=None, key="key"):
    """A live request under a decision."""
    made = request(number)
    live = replace(made.live, role=role, decision_id=decision, failed_attempt=failed)
    return replace(made, key=key, live=live)


def answered_by(role, requests):
    """What a role's worker writes about these requests, and whom it counts as left out."""
    log, metrics = memory_log(), Metrics("worker", {"role": [role]})
    last = request(999, live=None)
    send(log, *requests, last)
    with running(worker_of(log, HandModel(is_open=True), role=role, steps=STEPS, metrics=metrics)):
        wait_until(lambda: any(a.exchange == last for a in answers_of(log)), "the last request is answered")
    return {answer.request_offset: answer for answer in answers_of(log)}, metrics


def test_production_answers_what_any_candidate_served_and_the_record_says_who_did():
    """
    Production's worker answers for all runs, so its records carry live answers of every run's candidate.
    """
    requests = [routed(0, CANARY), routed(1, ANOTHERS), routed(2, CANARY, role="production")]
    answers, _ = answered_by("production", requests)
    assert [0, 1, 3] == sorted(answers)
    assert [requests[0], requests[1]] == [answers[0].exchange, answers[1].exchange]


def test_candidate_answers_what_another_runs_candidate_served():
    """
    A live answer of another run's candidate is none of this one's, whose worker is asked.
    """
    requests = [routed(0, CANARY), routed(1, ANOTHERS)]
    answers, metrics = answered_by("candidate", requests)
    assert [1, 2] == sorted(answers)
    assert requests[1] == answers[1].exchange
    assert 1 == metrics.value("shadow_worker_requests_total", role="candidate", result="served_live")


def test_failed_live_attempt_is_written_down_and_nobody_is_called():
    """
    The candidate failed live and production served: the failure is the candidate's answer, at once.
    """
    request_ = routed(0, CANARY, role="production", failed="no connection within 1 s")
    answers, metrics = answered_by("candidate", [request_])
    assert ("error", "no connection within 1 s", b"") == (answers[0].outcome, answers[0].error, answers[0].body)
    assert request_ == answers[0].exchange
    assert 1 == metrics.value("shadow_worker_requests_total", role="candidate", result="failed_live")


def test_watch_asks_production_about_its_sample():
    """
    In watch, production is asked about the share of the keys that its decision names, the same keys as in the fold.
    """
    requests = [routed(number, WATCH, key=f"key-{number}") for number in range(40)]
    answers, _ = answered_by("production", requests)
    asked = [number for number in range(40) if is_asked("production", f"key-{number}", 0.5)]
    assert 0 < len(asked) < 40
    assert [*asked, 40] == sorted(answers)
