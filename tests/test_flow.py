"""One flow through all links: from a live request to a decision. Read this test first."""

from __future__ import annotations

import pytest

from consumers.loop import WallClock
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
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


@pytest.mark.parametrize(
    ("wrong_every", "decision", "culprit"),
    [(0, "promote", None), (3, "rollback", "no_regression/even/correct")],
)
def test_request_to_decision_on_the_fakes(wrong_every, decision, culprit):
    """
    Live requests go through the proxy, both versions answer, and the gate promotes the equal candidate and
    rolls back the one that is wrong on a third of the even numbers.
    """
    trial = Trial()
    log, store = MemoryLog(WallClock().now_us), MemoryStore()
    with (
        HttpService(doubled) as production,
        HttpService(lambda request: doubled(request, wrong_every=wrong_every)) as candidate,
    ):
        started = begin(log, trial)
        with (
            ProxyThread(log, trial, production.port) as proxy,
            working(log, trial, candidate.url),
            comparing(log, store, trial, started),
            gating(log, store, trial, started) as gate,
        ):
            statuses = send(proxy.port, 600)
            wait_until(lambda: gate.decision is not None, "a decision")

    assert {200: 600} == statuses
    assert decision == gate.decision.decision
    assert culprit is None or culprit in gate.decision.culprits
