"""What people may order of a run, what is in force, and what the gate must obey: from the topic's records alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.gate.commands import due, fault, forbidden, order_of, people_tree, refusal
from shadow.gate.history import Run, runs_in
from shadow.records.decisions import COMMANDS, Command, Decision, DecisionsRecord, Obeyed, Started

RUN = "candidate-1"
STARTED = Started(RUN, 1, "v2", "v1", "0" * 64, "shadow", 60_000_000, 100, (0,), (0,), 0, 7 * 86_400_000_000)
DECIDED = Decision("d", RUN, 1, "rollback", "shadow", "rolled_back", 107, "", (0,), (), "worse", "{}", 0)


def order(name: str, command: str, by: str = "ada", **changes) -> Command:
    """A command that is right in itself."""
    own = {"override": True} if command == "promote" else {"for_s": 3600} if command == "extend" else {}
    return Command(name, RUN, command, by, f"reason of {name}", 1_790_000_000_000_000, **{**own, **changes})


def obeyed(name: str, tile: int) -> Obeyed:
    return Obeyed(name, RUN, tile, 0)


def run_of(*records: DecisionsRecord) -> Run:
    return runs_in([STARTED, *records])[0]


def ids(commands) -> list[str]:
    return [each.command_id for each in commands]


def test_one_resume_ends_every_hold_before_it():
    """
    Two holds are in force until someone resumes; a hold behind the resume is in force again.
    """
    first, second, resumed, third = order("a", "hold"), order("b", "hold"), order("c", "resume"), order("d", "hold")
    assert ["a", "b"] == ids(run_of(first, second).holds)
    assert [] == ids(run_of(first, second, resumed).holds)
    assert ["d"] == ids(run_of(first, second, resumed, third).holds)


def test_a_tile_is_judged_under_what_was_obeyed_at_it():
    """
    The tiles that `Obeyed` names say under which hold and which longest age a tile is judged.
    """
    #  tile   104   105   106   107   108
    #  hold         [a------------)            resumed at 107
    #  longer             [b------------
    run = run_of(
        *(order("a", "hold"), order("b", "extend"), order("c", "resume")),
        *(obeyed("a", 105), obeyed("b", 106), obeyed("c", 107)),
    )
    assert [[], ["a"], ["a"], [], []] == [ids(run.holds_at(tile)) for tile in range(104, 109)]
    assert [0, 0, 3600, 3600, 3600] == [run.extended_s_at(tile) for tile in range(104, 109)]
    assert (107, (), 7 * 86_400_000_000 + 3_600_000_000) == (run.settled_tile, run.pending, run.expires_us)


def test_what_is_not_obeyed_yet_is_pending():
    """
    A hold, a resume or an extension waits for its `Obeyed`; a promotion and a rollback wait for a decision.
    """
    records = [order(word, word) for word in COMMANDS]
    assert ["hold", "resume", "extend"] == ids(run_of(*records).pending)
    assert ["resume"] == ids(run_of(*records, obeyed("hold", 101), obeyed("extend", 101)).pending)


def test_repeats_in_the_topic_count_once():
    """
    Of two records with one id the first one counts, as with decisions; another run's commands are none of this one's.
    """
    run = run_of(
        *(order("a", "extend"), order("a", "extend", for_s=9), obeyed("a", 103), obeyed("a", 109)),
        replace(order("b", "hold"), run="another-1"),
    )
    assert (["a"], 3600, 103) == (ids(run.commands), run.extended_s, run.settled_tile)


@pytest.mark.parametrize(
    ("before", "command", "says"),
    [
        ([DECIDED], order("x", "hold"), "has ended (rollback at tile 107): it takes no more commands"),
        ([DECIDED], order("x", "rollback"), "has ended"),
        ([], order("x", "resume"), "no hold is in force"),
        ([order("a", "hold"), order("b", "resume")], order("x", "resume"), "no hold is in force"),
        ([], order("x", "promote", override=False), "needs --override"),
        ([order("a", "hold")], order("x", "promote"), "is held by ada at 2026-09-21 14:13:20 UTC: reason of a; resume"),
        ([order("a", "rollback")], order("x", "promote"), "is to be rolled back, ordered by ada"),
        ([order("a", "promote")], order("x", "promote"), "the promotion a by ada"),
        ([], order("x", "promote", confirms="a"), "admin.four_eyes is not true"),
        ([], order("x", "extend", for_s=0), "the extension is 0 s, must be 1 s to 365d"),
        ([], order("x", "extend", for_s=366 * 86_400), "must be 1 s to 365d"),
        ([], order("x", "hold", by=" "), "the name is ' ', must be one line of 1 to 64 printable characters"),
        ([], order("x", "hold", by="a" * 65), "the name is 'aaaa"),
        ([], replace(order("x", "hold"), reason=""), "the reason is ''"),
        ([], replace(order("x", "hold"), reason="two\nlines"), "the reason is 'two\\nlines', must be one line"),
        ([], replace(order("x", "hold"), command="pause"), "read 'pause', must be one of hold, resume, promote"),
    ],
    ids=range(16),
)
def test_what_the_run_does_not_allow_is_refused_with_a_sentence(before, command, says):
    """
    Each refusal says what stands against the command and what would help.
    """
    assert says in refusal(run_of(*before), command, four_eyes=False)


@pytest.mark.parametrize("word", COMMANDS)
def test_what_the_run_allows_is_not_refused(word):
    """
    On a run that is held everything but a promotion may be ordered, again as well; without a hold a promotion too.
    """
    run = run_of() if word == "promote" else run_of(order("a", "hold"))
    assert "" == refusal(run, order("x", word), four_eyes=False)


def test_four_eyes_are_two_people():
    """
    A promotion waits for another name, however it is spelt; the second confirmation has nothing to confirm.
    """
    first = order("a", "promote", by="ada")
    run = run_of(first)
    assert due(run, four_eyes=True) is None
    assert due(run, four_eyes=False) is not None
    own = refusal(run, order("x", "promote", by=" ADA ", confirms="a"), four_eyes=True)
    assert "ada ordered this promotion, so another person must confirm it" == own
    assert "no promotion 'b' of the run candidate-1 waits for a confirmation; a waits" == refusal(
        run, order("x", "promote", by="grace", confirms="b"), four_eyes=True
    )
    second = order("c", "promote", by="grace", confirms="a")
    assert "" == refusal(run, second, four_eyes=True)
    confirmed = due(run_of(first, second), four_eyes=True)
    assert (first, second) == (confirmed.command, confirmed.confirmation)
    late = refusal(run_of(first, second), order("x", "promote", by="joan", confirms="a"), four_eyes=True)
    assert "the promotion a is confirmed already; the gate obeys it soon" == late
    forged = run_of(first, order("c", "promote", by="Ada", confirms="a"))
    assert due(forged, four_eyes=True) is None


def test_a_rollback_comes_first_and_a_hold_takes_a_promotion_back():
    """
    What is due: the rollback whatever else was ordered; no promotion that a hold follows, also after a resume.
    """
    promote, hold, resume = order("p", "promote"), order("h", "hold"), order("r", "resume")
    assert "p" == due(run_of(promote), four_eyes=False).command.command_id
    assert "b" == due(run_of(promote, order("b", "rollback")), four_eyes=False).command.command_id
    assert "b" == due(run_of(hold, order("b", "rollback")), four_eyes=False).command.command_id
    assert due(run_of(promote, hold), four_eyes=False) is None
    assert due(run_of(promote, hold, resume), four_eyes=False) is None
    again = order("q", "promote")
    assert "q" == due(run_of(promote, hold, resume, again), four_eyes=False).command.command_id


def test_what_was_decided_is_not_due_again():
    """
    A decision ends what was ordered of a run that it ends; a promotion ordered before a stage's end is not of the next.
    """
    assert due(run_of(order("b", "rollback"), replace(DECIDED, command_id="b")), four_eyes=False) is None
    canary = replace(DECIDED, decision="promote", to_stage="canary")
    assert due(run_of(order("p", "promote"), canary), four_eyes=False) is None
    assert due(run_of(canary, order("p", "promote")), four_eyes=False) is not None
    assert due(run_of(order("b", "rollback"), canary), four_eyes=False) is not None


def test_a_decision_finds_its_order_again():
    """
    The command that a recorded decision names, with its confirmation; none where the topic has no such command.
    """
    first, second = order("a", "promote", by="ada"), order("c", "promote", by="grace", confirms="a")
    run = run_of(first, second, order("h", "hold"))
    assert (first, second) == (order_of(run, "a").command, order_of(run, "a").confirmation)
    assert [None, None] == [order_of(run, name) for name in ("h", "nosuch")]


RECORDS = st.lists(
    st.one_of(
        st.builds(lambda word, name: order(f"{word}{name}", word), st.sampled_from(COMMANDS), st.integers(0, 3)),
        st.builds(lambda word, name, tile: obeyed(f"{word}{name}", tile), *(
            st.sampled_from(("hold", "resume", "extend")), st.integers(0, 3), st.integers(100, 110)
        )),
    ),
    max_size=12,
)  # fmt: skip


@given(RECORDS, RECORDS)
def test_no_promotion_passes_a_hold_or_an_order_that_came_in_between(known, since):
    """
    Inside its transaction a promotion, by evidence or by a person, is forbidden where a hold is in force or anything
    was ordered since; a rollback by evidence never is.
    """
    before, now = run_of(*known), run_of(*known, *since)
    promotion = replace(DECIDED, decision="promote", to_stage="done")
    has_news = (before.commands, before.obeyed) != (now.commands, now.obeyed)
    for decision in (promotion, replace(promotion, command_id="promote0")):
        assert forbidden(before, now, decision) or not (now.holds or now.pending or has_news)
    assert not forbidden(before, now, DECIDED)
    assert has_news == forbidden(before, now, replace(DECIDED, decision="expire"))


@given(RECORDS)
def test_what_is_due_is_never_a_promotion_under_a_hold(records):
    """
    Whatever stands in the topic, a promotion is due only where no hold is in force.
    """
    run = run_of(*records)
    found = due(run, four_eyes=False)
    assert found is None or found.command.command == "rollback" or not run.holds
    assert {"holds", "pending", "confirmed_by", "extended_s", "expires_us"} == people_tree(run).keys()


def test_a_right_command_has_no_fault():
    """
    One of each kind passes.
    """
    assert [""] * len(COMMANDS) == [fault(order("x", word)) for word in COMMANDS]
