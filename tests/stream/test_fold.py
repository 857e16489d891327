"""The fold: each request is decided once, by the records alone, and a snapshot anywhere changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shadow.records.answers import RecordedGrade, Report, Tick
from shadow.records.tallies import Key
from shadow.stream.state import fields_from_state, state_from_fields
from tests.stream.builders import (
    CORRECT,
    HACK_RULES,
    REWARD,
    RUN,
    SECOND,
    SPEC,
    AnswersLog,
    answer,
    fold_of,
    request,
)

CLASSES = Key("all", "classes", "")


def run_of(fold, entries):
    """Fold entries; returns (closed tiles, pairs, asks)."""
    closed, pairs, asks = [], [], []
    for record, content in entries:
        effects = fold.apply(record, content)
        closed += effects.closed
        pairs += effects.pairs
        asks += effects.asks
    return closed, pairs, asks


def test_pair_is_complete_after_one_record():
    """
    The candidate's answer carries the exchange, so one record makes a pair, and its tile closes by the tick.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, 3 * SECOND, body=b"wrong"), 4 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)

    closed, pairs, _ = run_of(fold_of(requests), log.records)

    assert [0] == [tile.number for tile in closed]
    assert [1, 0, 0, 0, 0, 0] == closed[0].tally.vectors[CLASSES]
    assert [0, 1, 0, 0] == closed[0].tally.vectors[Key("search", "graders", "correct")]
    assert ("all", "search", "odd") == pairs[0].slices


def test_tile_waits_for_its_requests():
    """
    A ticked tile stays open until each of its requests is decided.
    """
    requests = {0: request(1), 1: request(2)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND), 2 * SECOND)
    log.append(Tick(RUN, 0, 2), 10 * SECOND)
    before, _, _ = run_of(fold := fold_of(requests), log.records)
    entry = log.append(answer(requests[1], 1, 2 * SECOND), 12 * SECOND)

    after, _, _ = run_of(fold, [entry])

    assert ([], [0]) == ([tile.number for tile in before], [tile.number for tile in after])
    assert 2 == after[0].tally.vectors[CLASSES][0]


def test_unanswered_request_is_missing_after_the_deadline():
    """
    When the watermark passes the tile's end plus the deadline, what has no answer is missing, by its own slices.
    """
    requests = {0: request(1, text="nothing")}
    log = AnswersLog()
    log.append(Tick(RUN, 0, 1), 10 * SECOND)
    log.append(Tick(RUN), 40 * SECOND)
    log.append(Tick(RUN), 41 * SECOND)

    closed, _, _ = run_of(fold_of(requests), log.records)

    assert {"all", "odd"} == {key.slice for key in closed[0].tally.vectors}
    assert [0, 0, 0, 1, 0, 0] == closed[0].tally.vectors[CLASSES]


def test_answer_after_its_tile_closed_is_late_and_changes_nothing():
    """
    A late answer counts beside the tiles only; its request stays missing.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(Tick(RUN, 0, 1), 10 * SECOND)
    log.append(Tick(RUN), 41 * SECOND)
    log.append(answer(requests[0], 0, SECOND), 42 * SECOND)

    fold = fold_of(requests)
    closed, pairs, _ = run_of(fold, log.records)

    assert (1, 0) == (fold.state.counters["late"], fold.state.counters["duplicate"])
    assert ([0], []) == ([tile.number for tile in closed], pairs)


def test_undecided_request_of_a_closed_tile_counts_once():
    """
    A request behind `requests_end` whose tile closed all the same is missing, in the oldest open tile.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(Tick(RUN, 0, 0), 10 * SECOND)
    log.append(answer(requests[0], 0, SECOND), 12 * SECOND)
    log.append(Tick(RUN, 1, 1), 20 * SECOND)

    fold = fold_of(requests)
    closed, _, _ = run_of(fold, log.records)

    assert [0, 1] == [tile.number for tile in closed]
    assert 1 == fold.state.counters["late"]
    assert [0, 0, 0, 1, 0, 0] == closed[1].tally.vectors[CLASSES]


def test_first_answer_counts():
    """
    A repeated answer is a duplicate, whether or not it says something else.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND, body=b"right"), 2 * SECOND)
    log.append(answer(requests[0], 0, SECOND, body=b"wrong"), 3 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)

    fold = fold_of(requests)
    closed, _, _ = run_of(fold, log.records)

    assert 1 == fold.state.counters["duplicate"]
    assert [1, 0, 0, 0] == closed[0].tally.vectors[Key("all", "graders", "correct")]


@pytest.mark.parametrize(
    ("outcome", "name", "cells"),
    [
        ("timeout", "paired", [0, 1, 0, 0]),
        ("error", "paired", [0, 1, 0, 0]),
        ("expired", "candidate_missing", None),
        ("refused", "candidate_missing", None),
        ("too_large", "candidate_missing", None),
        ("unreadable", "unreadable", None),
    ],
)
def test_whose_fault_an_outcome_is(outcome, name, cells):
    """
    A time-out or error is the candidate's failed grade; our own trouble lowers coverage and is no evidence.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND, outcome=outcome, body=b""), 2 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)

    closed, _, _ = run_of(fold_of(requests), log.records)
    classes = dict(
        zip(
            ("paired", "candidate_missing", "production_missing", "missing", "sampled_out", "unreadable"),
            closed[0].tally.vectors[CLASSES],
            strict=True,
        )
    )

    assert {name: 1} == {key: count for key, count in classes.items() if count}
    assert cells == closed[0].tally.vectors.get(Key("all", "graders", "correct"))


def test_failed_call_is_left_out_of_cap_and_cost_and_is_slow():
    """
    A candidate's time-out counts for floors and as slow, but is no safety violation and has no cost.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND, outcome="timeout", body=b""), 2 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)

    closed, _, _ = run_of(fold_of(requests), log.records)
    vectors = closed[0].tally.vectors

    assert Key("all", "rates", "correct") not in vectors
    assert [1, 0, 1, 0] == vectors[Key("all", "latency", "total:0.95:1.25")]


def test_quota_raises_its_slice_only():
    """
    A pair whose u is above the base rate counts in the slice with the quota, and not in `all`.
    """
    requests = {0: request(1, u=0.5, sample=0.2, quotas={"search": 1.0})}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND), 2 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)

    closed, _, _ = run_of(fold_of(requests), log.records)

    assert {"search"} == {key.slice for key in closed[0].tally.vectors}


def grade(outcome, *, role="candidate", offset=0):
    return RecordedGrade(RUN, offset, "candidate-production", "reward", role, outcome)


def test_pair_waits_for_its_recorded_grades():
    """
    A pair with a slow grader is counted when both grades stand in the log; the first one of each counts.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND), 2 * SECOND)
    log.append(grade("asked"), 2 * SECOND)
    log.append(grade("passed"), 3 * SECOND)
    log.append(grade("failed"), 4 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)
    fold = fold_of(requests, graders=(CORRECT, REWARD), rules=HACK_RULES)
    before, _, asks = run_of(fold, log.records)

    after, _, _ = run_of(fold, [log.append(grade("failed", role="production"), 12 * SECOND)])

    assert [("reward", "production"), ("reward", "candidate")] == [(ask.grader, ask.role) for ask in asks]
    assert ([], [0]) == (before, [tile.number for tile in after])
    assert [0, 0, 1, 0] == after[0].tally.vectors[Key("all", "graders", "reward")]
    assert 1 == fold.state.counters["grades_repeated"]


def test_grade_that_never_comes_is_broken_by_log_time():
    """
    The mark bounds the wait: past the budget and two minutes of log time the grade is broken, and the pair counts.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND), 2 * SECOND)
    log.append(grade("asked"), 2 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)
    log.append(Tick(RUN), 132 * SECOND)
    fold = fold_of(requests, graders=(CORRECT, REWARD), rules=HACK_RULES)
    before, _, _ = run_of(fold, log.records)

    after, _, _ = run_of(fold, [log.append(Tick(RUN), 133 * SECOND)])

    assert ([], [0]) == (before, [tile.number for tile in after])
    assert [1] == after[0].tally.vectors[Key("all", "broken", "")]
    assert Key("all", "graders", "reward") not in after[0].tally.vectors


@pytest.mark.parametrize(
    ("grader", "role"), [("nosuch", "candidate"), ("correct", "candidate"), ("reward", "human")], ids=str
)
def test_grade_that_nobody_asked_for_counts_nothing(grader, role):
    """
    P16: a grade of a grader or a role that the pair does not wait for is a repeat, and the pair counts without it.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND), 2 * SECOND)
    log.append(grade("asked"), 2 * SECOND)
    log.append(RecordedGrade(RUN, 0, "candidate-production", grader, role, "failed"), 3 * SECOND)
    for each in ("candidate", "production"):
        log.append(grade("passed", role=each), 4 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)
    fold = fold_of(requests, graders=(CORRECT, REWARD), rules=HACK_RULES)

    closed, _, _ = run_of(fold, log.records)

    assert [0] == [tile.number for tile in closed]
    assert [1, 0, 0, 0] == closed[0].tally.vectors[Key("all", "graders", "correct")]
    assert 1 == fold.state.counters["grades_repeated"]


def test_a_recorded_grade_takes_no_failure_back():
    """
    A candidate that timed out has failed the recorded grader too, whatever a record says of its answer.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND, outcome="timeout"), 2 * SECOND)
    log.append(grade("asked"), 2 * SECOND)
    log.append(grade("passed"), 3 * SECOND)
    log.append(grade("passed", role="production"), 4 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)
    fold = fold_of(requests, graders=(CORRECT, REWARD), rules=HACK_RULES)

    closed, _, _ = run_of(fold, log.records)

    assert [0, 1, 0, 0] == closed[0].tally.vectors[Key("all", "graders", "reward")]


def test_a_mark_before_its_pair_is_no_mark():
    """
    A mark that stands before the pair is complete bounds nothing, whether or not an owner loads in between.
    """
    requests = {0: replace(request(1), live=None)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND), 2 * SECOND)
    log.append(grade("asked"), 2 * SECOND)
    log.append(grade("passed"), 2 * SECOND)
    log.append(Tick(RUN, 0, 1), 10 * SECOND)
    log.append(answer(requests[0], 0, SECOND, role="production"), 20 * SECOND)
    later = log.append(Tick(RUN), 200 * SECOND)
    spec = replace(SPEC, deadlines_us={"candidate-production": 1000 * SECOND})
    results = []
    for is_loaded in (False, True):
        fold = fold_of(requests, spec=spec, graders=(CORRECT, REWARD), rules=HACK_RULES)
        run_of(fold, log.records[:-1])
        if is_loaded:
            fields, _ = fields_from_state(fold.state, only_changed=False)
            state = state_from_fields(fields, spec)
            offsets = [(offset, 0) for waiting in state.waiting.values() for offset in waiting.offsets]
            fold = fold_of(requests, spec=spec, graders=(CORRECT, REWARD), rules=HACK_RULES, state=state)
            fold.restore([(each, *log.records[offset]) for offset, each in offsets])
        closed, _, _ = run_of(fold, [later])
        needs = fold.state.waiting[0].undecided["candidate-production"].needs
        results.append(([tile.number for tile in closed], needs))

    assert [([], {("reward", "candidate"), ("reward", "production")})] * 2 == results


def test_other_runs_and_earlier_requests_are_ignored():
    """
    Answers of another run, and answers to requests from before the run, count nothing.
    """
    requests = {0: request(1)}
    log = AnswersLog()
    log.append(answer(requests[0], 0, SECOND, run="another-1"), 2 * SECOND)
    log.append(answer(requests[0], -1, SECOND), 2 * SECOND)
    log.append(Report("proxy", 1, 5, 5, {}), 3 * SECOND)

    fold = fold_of(requests)
    run_of(fold, log.records)

    assert {} == fold.state.main.tallies
    assert {} == fold.state.waiting


def test_floor_counts_failed_calls_over_all_pairs():
    """
    A floor's cells count every pair, and a call that failed as a violation, so that its design effect is its own.
    """
    requests = {0: request(1), 1: request(2), 2: request(3)}
    fold, log = fold_of(requests), AnswersLog()
    for offset, (body, outcome) in enumerate(((b"right", "answered"), (b"wrong", "answered"), (b"", "timeout"))):
        fold.apply(*log.append(answer(requests[offset], offset, 1, body=body, outcome=outcome), 2))

    tally = fold.state.main.tallies[0]

    floor, cap = Key("all", "rates", "floor/correct"), Key("all", "rates", "correct")
    assert [2, 3] == tally.vectors[floor]
    assert [1, 2] == tally.vectors[cap]
    assert 3 == sum(cell[0] for cell in tally.cells[floor].values())
