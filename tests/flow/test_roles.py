"""Answers of all roles: production's where no proxy saw it, and the baseline's, each from a worker of its own."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from consumers.loop import WallClock
from shadow.adapters.avro import decode, encode
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_PRODUCTION, tile_of_name
from shadow.records.policy import Agreement, Floor
from shadow.records.tallies import ClosedTile, Key, Tally
from shadow.stream.state import slot_of
from tests.flow.harness import (
    PARTITIONS,
    HttpService,
    Trial,
    begin,
    comparing,
    doubled,
    records_of,
    wait_until,
    working,
)
from tests.stream.builders import request

REQUESTS = 60


def closed_of(store, run):
    """Closed tiles of all partitions added up, by comparison."""
    totals = {CANDIDATE_PRODUCTION: Tally(), BASELINE_PRODUCTION: Tally()}
    for partition in range(PARTITIONS):
        slot = slot_of(run, partition)
        for name in store.tile_names(slot):
            number, comparison = tile_of_name(name)
            totals[comparison].add(ClosedTile.from_bytes(number, store.tiles(slot, [name])[0], comparison).tally)
    return totals


def test_production_and_baseline_answer_copies_that_nobody_saw_answered():
    """
    Copies without the user's answer are answered by production's worker, once for all runs, by the candidate's
    and by the baseline's; each comparison pairs every one of them.
    """
    trial = Trial(rules=(Floor("tagged", min=0.5), Agreement(tag="answer")))
    log, store = MemoryLog(WallClock().now_us), MemoryStore()
    calls = []
    with ExitStack() as stack:
        production = stack.enter_context(HttpService(lambda asked: calls.append(asked["n"]) or doubled(asked)))
        candidate = stack.enter_context(HttpService(lambda asked: doubled(asked, wrong_every=3)))
        started = begin(log, trial)
        for role, url in (("production", production.url), ("baseline", production.url), ("candidate", candidate.url)):
            stack.enter_context(working(log, trial, url, role))
        stack.enter_context(comparing(log, store, trial, started))
        writer = log.writer()
        for number in range(1, REQUESTS + 1):
            body = f'{{"n": {number}, "even": {str(number % 2 == 0).lower()}}}'.encode()
            copy = replace(
                request(number, sample=1.0), live=None, body=body, headers={"content-type": "application/json"}
            )
            writer.write(trial.topics["requests"], number % PARTITIONS, key=copy.key.encode(), value=encode(copy))
        assert 0 == writer.flush(10)

        def is_decided():
            counted = closed_of(store, started.run).values()
            return all(REQUESTS == sum(each.vectors.get(Key("all", "classes", ""), ())) for each in counted)

        wait_until(is_decided, "every copy is decided in both comparisons")
    totals = closed_of(store, started.run)
    for total in totals.values():
        assert REQUESTS == total.vectors[Key("all", "classes", "")][0]
    wrong = sum(number % 6 == 0 for number in range(1, REQUESTS + 1))
    assert [wrong, 0, REQUESTS] == totals[BASELINE_PRODUCTION].vectors[Key("all", "agreement", "tag:answer")]
    answers = [decode(record.value) for record in records_of(log, trial.topics["answers"])]
    runs = {(each.role, each.run) for each in answers if hasattr(each, "role") and hasattr(each, "version")}
    assert {("production", "*"), ("baseline", trial.run), ("candidate", trial.run)} == runs
    assert 2 * REQUESTS == len(calls)
