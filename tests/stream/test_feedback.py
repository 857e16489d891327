"""Votes of users in the fold: which count, where, and once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.adapters.avro import encode
from shadow.adapters.content import content_of
from shadow.errors import InvalidRecord
from shadow.records.answers import Feedback, Tick
from shadow.records.decisions import decision_id
from shadow.records.log import LogRecord
from shadow.records.policy import LiveStep
from shadow.records.tallies import FEEDBACK, Key
from shadow.records.votes import ServedRequest, cell_of, served_from_token, token_of
from shadow.stream.state import VOTES_KEPT, fields_from_state, state_from_fields
from tests.stream.builders import RUN, SECOND, SPEC, AnswersLog, fold_of

FIRST, SECOND_STEP, WATCH = (decision_id(RUN, step) for step in (1, 2, 3))
STEPS = {
    FIRST: LiveStep("canary", "canary-1", 0.1),
    SECOND_STEP: LiveStep("canary", "canary-2", 0.5),
    WATCH: LiveStep("watch", "watch", 1.0, 0.5),
}
LIVE = replace(SPEC, steps=STEPS)
ID = "0198f2c0-0000-7000-8000-000000000001"
VOTES_1, VOTES_2 = (Key(f"canary-{step}/all", "rates", FEEDBACK) for step in (1, 2))


def vote(number, decision=FIRST, *, routed=True, cell=5, verdict="negative"):
    return Feedback(0, f"request-{number}", decision, routed, cell, verdict, "", 0)


def folded(votes, spec=LIVE):
    """The fold after these (log time in seconds, vote), and the tallies of its tiles, open ones included."""
    log = AnswersLog()
    for time_s, content in votes:
        log.append(content, time_s * SECOND)
    fold = fold_of({}, spec=spec)
    tallies = {tile.number: tile.tally for entry in log.records for tile in fold.apply(*entry).closed}
    return fold, tallies | fold.state.main.tallies


@pytest.mark.parametrize("decision", [None, FIRST])
@pytest.mark.parametrize("routed", [True, False])
def test_token_says_what_it_was_made_of(decision, routed):
    """
    What a token is made of is read back; without a decision only place and id are in it.
    """
    token = token_of(3, ID, "session-7", decision, is_routed=routed)
    told = ServedRequest(3, ID, FIRST, routed, cell_of("session-7")) if decision else ServedRequest(3, ID)
    assert told == served_from_token(token)
    assert decision is not None or f"3-{ID}" == token


def test_decision_that_is_no_id_is_no_part_of_a_header():
    """
    A foreign record's decision cannot write lines into a response.
    """
    assert f"0-{ID}" == token_of(0, ID, "key", "x\r\nset-cookie: a=b", is_routed=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID,
        f"-1-{ID}",
        f"01-{ID}",
        f"\u0663-{ID}",
        f"1234567890-{ID}",
        f"0-{ID.upper()}",
        f"0-{ID} ",
        f"0-{ID}\n",
        f"0-{ID}.",
        f"0-{ID}.{'a' * 32}.c",
        f"0-{ID}.{'a' * 31}.c.5",
        f"0-{ID}.{'a' * 32}.x.5",
        f"0-{ID}.{'a' * 32}.c.128",
        f"0-{ID}.{'a' * 32}.c.05",
        f"0-{ID}.{'a' * 32}.c.5.6",
    ],
)
def test_anything_else_is_no_token(text):
    """
    A token has one spelling only.
    """
    assert None is served_from_token(text)


def test_negative_votes_count_by_step_and_side():
    """
    Vector and cells hold how many of a step's votes are on what the candidate was to serve.
    """
    votes = [vote(1), vote(2, routed=False), vote(3, cell=9), vote(4, SECOND_STEP, routed=False)]
    _, tallies = folded([(1, each) for each in votes])

    assert ([2, 3], [0, 1]) == (tallies[0].vectors[VOTES_1], tallies[0].vectors[VOTES_2])
    assert {5: [2, 1], 9: [1, 1]} == tallies[0].cells[VOTES_1]


@pytest.mark.parametrize(
    "content",
    [
        vote(1, verdict="positive"),
        vote(1, WATCH),
        vote(1, None, routed=False),
        vote(1, decision_id("another-00000000-1", 1)),
    ],
    ids=["positive", "watch", "no-decision", "another-run"],
)
def test_other_votes_count_nowhere(content):
    """
    Praise, a watch, and what was routed under no decision of this run prove nothing in canary.
    """
    fold, tallies = folded([(1, content)])
    assert ({}, {}, 0) == (tallies, fold.state.votes.requests, fold.state.counters["feedback_repeated"])


def test_vote_counts_in_the_tile_where_it_stands():
    """
    A vote that comes after its step, days later even, counts for its step in the tile of its append time.
    """
    _, tallies = folded([(1, vote(1, SECOND_STEP)), (2, Tick(RUN)), (35, vote(2)), (7, vote(3))])
    assert {0: {VOTES_2: [1, 1], VOTES_1: [1, 1]}, 3: {VOTES_1: [1, 1]}} == {
        number: tally.vectors for number, tally in tallies.items()
    }


def test_closed_tile_takes_no_vote():
    """
    A vote whose append time lies in a closed tile counts in the oldest that is open.
    """
    log = [(10, Tick(RUN, 0, 0)), (5, vote(1)), (6, vote(1))]
    fold, tallies = folded(log)
    assert (1, [1, 1]) == (fold.state.main.tiles.oldest, tallies[1].vectors[VOTES_1])
    assert 1 == fold.state.counters["feedback_repeated"]


def test_last_votes_are_remembered():
    """
    A repeat among the last 4,096 requests counts nothing; what is older is forgotten.
    """
    fold, tallies = folded([(1, vote(number)) for number in (*range(VOTES_KEPT + 1), 1, 0)])
    assert (VOTES_KEPT, 1) == (len(fold.state.votes.requests), fold.state.counters["feedback_repeated"])
    assert VOTES_KEPT + 2 == tallies[0].vectors[VOTES_1][1]


def test_every_run_reads_a_vote_of_its_partition():
    """
    A vote carries no run, and belongs into the partition that it names.
    """
    value = encode(vote(1))
    assert vote(1) == content_of(LogRecord("answers", 0, 0, 0, b"", value), "any-run")
    with pytest.raises(InvalidRecord, match="a vote of partition 0 stands in partition 1"):
        content_of(LogRecord("answers", 1, 0, 0, b"", value), "any-run")


drawn_votes = st.tuples(
    st.integers(0, 9),
    st.sampled_from([FIRST, SECOND_STEP, WATCH, None]),
    st.booleans(),
    st.integers(0, 127),
    st.sampled_from(["negative", "positive"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(drawn_votes, st.integers(0, 4)), max_size=40), st.sets(st.integers(0, 40)))
def test_crash_anywhere_changes_no_vote(drawn, crashes):
    """
    Going on from a snapshot after any record counts the same votes in the same tiles.
    """
    log = AnswersLog()
    for time_s, each in enumerate(drawn):
        if isinstance(each, int):
            log.append(Tick(RUN, each, 0), time_s * SECOND)
        else:
            number, decision, routed, cell, verdict = each
            log.append(vote(number, decision, routed=routed, cell=cell, verdict=verdict), time_s * SECOND)

    def fold_all(crashes):
        fold, closed = fold_of({}, spec=LIVE), []
        stored = dict(fields_from_state(fold.state, only_changed=False)[0])
        for index, entry in enumerate(log.records):
            closed += fold.apply(*entry).closed
            fields, dropped = fields_from_state(fold.state, only_changed=True)
            stored = {name: value for name, value in (stored | fields).items() if name not in dropped}
            fold.state.stored()
            if index in crashes:
                fold = fold_of({}, spec=LIVE, state=state_from_fields(stored, LIVE))
        state = fold.state
        tiles = {tile.number: tile.tally.to_bytes() for tile in closed}
        open_tiles = {number: tally.to_bytes() for number, tally in state.main.tallies.items()}
        return tiles, open_tiles, state.counters, list(state.votes.requests)

    assert fold_all(set()) == fold_all(crashes)
