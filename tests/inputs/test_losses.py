"""Losses that are not random: what is missing differs from what is paired, and the gate holds and says so."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from typing import Any

import aiohttp
import pytest

from consumers.gate import Gate
from consumers.loop import WallClock
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.metrics import Metrics
from shadow.records.policy import Needs
from tests.flow.harness import HttpService, Loop, ProxyThread, Trial, begin, comparing, doubled, wait_until, working

REQUESTS = 600
LONG = 4000


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    """The last known state of this machine is the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def send_of_sizes(port: int, is_long) -> None:
    """Numbered requests, some of them long."""

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        body = {"n": number, "even": number % 2 == 0, "metadata": {"answer": str(number * 2)}}
        body["text"] = "x" * (LONG if is_long(number) else 100)
        async with session.post(f"http://127.0.0.1:{port}/v1/double", json=body) as answer:
            assert 200 == answer.status
            await answer.read()

    async def everything() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:
            await asyncio.gather(*(one(session, number) for number in range(REQUESTS)))

    asyncio.run(everything())


def answered_short_only(request: dict[str, Any]) -> dict[str, Any]:
    """Right, but what it answers to long requests is larger than any answer that is taken."""
    return doubled(request) | {"thoughts": "x" * (1_100_000 if len(request["text"]) == LONG else 1)}


def answered_every_twentieth_not(request: dict[str, Any]) -> dict[str, Any]:
    """Right, but as large on one request of twenty, whatever its length."""
    return doubled(request) | {"thoughts": "x" * (1_100_000 if request["n"] % 20 == 0 else 1)}


@pytest.mark.parametrize(
    ("candidate", "is_long", "is_held"),
    [
        (answered_short_only, lambda number: number % 20 == 0, True),
        (answered_every_twentieth_not, lambda number: number // 20 % 20 == 0, False),
    ],
    ids=["all-over-a-size", "any-size"],
)
def test_losses_hold_the_gate_where_they_are_not_random(candidate, is_long, is_held):
    """
    No long request is paired: everything is proven and the gate holds, with the ratio of the sizes as its reason and
    in a metric. Where one of twenty is lost whatever its length, as many losses hold nothing.
    """
    trial = Trial(needs=Needs(pairs=300, slice_pairs=100, coverage=0.9))
    log, store, metrics = MemoryLog(WallClock().now_us), MemoryStore(), Metrics("gate")
    with (
        HttpService(doubled) as production,
        HttpService(candidate) as model,
        closing(log.decisions(trial.topics["decisions"], "test")) as writer,
    ):
        started = begin(log, trial)
        gate = Gate(started, trial.policy, store, writer, metrics, WallClock())

        def conditions() -> dict[str, dict[str, Any]]:
            stored = store.load(trial.run)
            view = json.loads(stored[1].get("view", b"{}")) if stored is not None else {}
            return {row["name"]: row for row in view.get("explain", []) if row["slice"] == "all" and not row["grader"]}

        def blocking() -> set[str]:
            stored = store.load(trial.run)
            view = json.loads(stored[1].get("view", b"{}")) if stored is not None else {}
            return {row["name"] for row in view.get("explain", [{"name": "nothing is known yet"}]) if row["blocks"]}

        with (
            ProxyThread(log, trial, production.port) as proxy,
            working(log, trial, model.url),
            comparing(log, store, trial, started),
            Loop(gate.run),
        ):
            send_of_sizes(proxy.port, is_long)
            if is_held:
                wait_until(lambda: {"missing_at_random"} == blocking(), "only the losses hold the gate")
                assert gate.decision is None
                assert "compared with paired requests: size " in conditions()["missing_at_random"]["reason"]
                ratio = metrics.value("shadow_gate_missing_size_ratio", run=trial.run, slice="all")
                assert ratio > 10
                assert 0 == metrics.value(
                    "shadow_gate_condition_met", run=trial.run, condition="missing_at_random", slice="all"
                )
            else:
                wait_until(lambda: gate.decision is not None, "a decision")
                assert "promote" == gate.decision.decision
                assert 0.04 < metrics.value("shadow_gate_missing_ratio", run=trial.run, slice="all") < 0.06
