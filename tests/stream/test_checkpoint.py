"""A snapshot at any record, in any order of events, changes no integer."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.records.answers import RecordedGrade, Report, Tick
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
    without_live,
)

REQUESTS = 12
GRADERS = (CORRECT, REWARD)

events = st.lists(
    st.one_of(
        st.tuples(
            st.just("answer"),
            st.integers(0, REQUESTS - 1),
            st.sampled_from(["answered", "timeout", "expired", "unreadable"]),
        ),
        st.tuples(
            st.just("grade"), st.integers(0, REQUESTS - 1), st.sampled_from(["asked", "passed", "failed", "broken"])
        ),
        st.tuples(st.just("tick"), st.integers(0, 6), st.integers(0, REQUESTS)),
        st.tuples(st.just("idle"), st.integers(1, 80), st.none()),
        st.tuples(st.just("report"), st.integers(REQUESTS, 20), st.none()),
        st.tuples(st.just("garbage"), st.none(), st.none()),
    ),
    max_size=60,
)


def log_of(drawn, requests):
    """A log made of drawn events; time goes on by one second a record, and by drawn steps while idle."""
    log, time_us = AnswersLog(), 0
    for kind, number, detail in drawn:
        time_us += SECOND
        match kind:
            case "answer":
                log.append(answer(requests[number], number, number * 2 * SECOND, outcome=detail), time_us)
            case "grade":
                for role in ("production", "candidate"):
                    log.append(RecordedGrade(RUN, number, "candidate-production", "reward", role, detail), time_us)
            case "tick":
                log.append(Tick(RUN, number, detail), time_us)
            case "idle":
                time_us += number * SECOND
                log.append(Tick(RUN), time_us)
            case "report":
                log.append(Report("proxy", 1, number, number, {}), time_us)
            case _:
                log.append(None, time_us)
    return log


def result_of(fold, closed):
    """Everything that was counted, as comparable values."""
    state = fold.state
    return (
        [(tile.number, tile.next, tile.tally.to_bytes()) for tile in closed],
        {tile: tally.to_bytes() for tile, tally in state.main.tallies.items()},
        state.counters,
        state.accounts.account(),
        sorted(state.waiting),
        (state.met, state.main.first_undecided(state.met), sorted(state.main.open), state.main.decided),
    )


@settings(max_examples=300, deadline=None)
@given(events, st.sets(st.integers(0, 90)))
def test_crash_anywhere_changes_nothing(drawn, crashes):
    """
    Dropping the fold after any record and going on from its snapshot gives the integers of an undisturbed fold.
    """
    requests = {offset: request(offset + 1) for offset in range(REQUESTS)}
    log = log_of(drawn, requests)
    whole = fold_of(requests, graders=GRADERS, rules=HACK_RULES)
    whole_closed = [tile for entry in log.records for tile in whole.apply(*entry).closed]

    fold = fold_of(requests, graders=GRADERS, rules=HACK_RULES)
    closed, stored = [], dict(fields_from_state(fold.state, only_changed=False)[0])
    for index, entry in enumerate(log.records):
        closed += fold.apply(*entry).closed
        fields, dropped = fields_from_state(fold.state, only_changed=True)
        stored = {name: value for name, value in (stored | fields).items() if name not in dropped}
        fold.state.stored()
        if index in crashes:
            state = state_from_fields(stored, SPEC)
            fold = fold_of(requests, graders=GRADERS, rules=HACK_RULES, state=state)
            offsets = {offset: number for number, w in state.waiting.items() for offset in w.offsets}
            fold.restore([(offsets[offset], *log.records[offset]) for offset in sorted(offsets)])

    assert result_of(whole, whole_closed) == result_of(fold, closed)


@settings(max_examples=300, deadline=None)
@given(events, st.sets(st.integers(0, 90)))
def test_pairs_at_once_count_like_any_other(drawn, crashes):
    """
    What a record completes by itself is counted, and written, like a pair that waited, over crashes too.
    """
    requests = {offset: request(offset + 1) for offset in range(REQUESTS)}
    requests[3] = request(4, live_outcome="timeout")
    requests[4] = replace(request(5), live=replace(request(5).live, role="candidate"))
    requests[5] = without_live(request(6))
    log = log_of(drawn, requests)

    def fold_all(crashes, *, is_at_once):
        fold, effects = fold_of(requests), []
        for index, entry in enumerate(log.records):
            fold._are_pairs_plain = is_at_once
            effects.append(fold.apply(*entry))
            if index in crashes:
                state = state_from_fields(fields_from_state(fold.state, only_changed=False)[0], SPEC)
                fold = fold_of(requests, state=state)
                offsets = {offset: number for number, w in state.waiting.items() for offset in w.offsets}
                fold.restore([(offsets[offset], *log.records[offset]) for offset in sorted(offsets)])
        closed = [tile for each in effects for tile in each.closed]
        return result_of(fold, closed), [pair for each in effects for pair in each.pairs]

    assert fold_of(requests)._are_pairs_plain
    assert fold_all(set(), is_at_once=False) == fold_all(crashes, is_at_once=True)


@settings(max_examples=200, deadline=None)
@given(events)
def test_every_request_is_decided_once(drawn):
    """
    Each request is in at most one class of one tile, and the classes sum to the decided requests.
    """
    requests = {offset: request(offset + 1) for offset in range(REQUESTS)}
    fold = fold_of(requests, graders=GRADERS, rules=HACK_RULES)
    closed = [tile for entry in log_of(drawn, requests).records for tile in fold.apply(*entry).closed]

    tallies = [tile.tally for tile in closed] + list(fold.state.main.tallies.values())
    counted = sum(
        sum(vector) for tally in tallies for key, vector in tally.vectors.items() if key[:2] == ("all", "classes")
    )
    decided = fold.state.met.base + len(fold.state.met.above) - len(fold.state.main.open)

    assert decided == counted == sum(sum(epoch.present) for epoch in fold.state.accounts.epochs.values())


def test_snapshot_is_plain_json():
    """
    The head of a snapshot is readable text with a format number.
    """
    fields, _ = fields_from_state(fold_of({}).state, only_changed=False)

    assert 5 == json.loads(fields["head"])["format"]
