"""What the grades of a pair say of its answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from shadow.records.comparisons import CANDIDATE, HUMAN, PRODUCTION
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, GraderSpec
from shadow.training.judged import judged, judging
from shadow.training.rows import is_chosen
from tests.training.builders import GRADERS, pair_of, pairs


@pytest.mark.parametrize(
    ("graded", "preferred", "by"),
    [
        ({"correct": (PASSED, FAILED)}, PRODUCTION, ("correct",)),
        ({"correct": (FAILED, PASSED)}, CANDIDATE, ("correct",)),
        ({"correct": (PASSED, FAILED), "tagged": (PASSED, FAILED)}, PRODUCTION, ("correct", "tagged")),
        ({"correct": (PASSED, FAILED), "tagged": (FAILED, FAILED)}, PRODUCTION, ("correct",)),
        ({"correct": (PASSED, FAILED), "tagged": (FAILED, PASSED)}, "", ()),
        ({"correct": (PASSED, PASSED)}, "", ()),
        ({"correct": (FAILED, FAILED)}, "", ()),
        ({"correct": (BROKEN, FAILED)}, "", ()),
        ({"correct": (NOT_APPLICABLE, FAILED)}, "", ()),
        ({"reward": (PASSED, FAILED)}, "", ()),
    ],
)
def test_a_preference_is_what_the_grades_agree_on(graded, preferred, by):
    """
    Where graders contradict each other, or one could not tell, nobody has said which answer is better.
    """
    found = judged(pair_of(graded=graded), GRADERS)
    assert (preferred, by) == (found.preferred, found.preferred_by)


def test_the_answer_to_learn_passed_everything():
    """
    Production's if it passed all that applies, else the candidate's if it did, else none.
    """
    right = {
        ((PASSED, PASSED), (PASSED, FAILED)): PRODUCTION,
        ((PASSED, PASSED), (NOT_APPLICABLE, PASSED)): PRODUCTION,
        ((FAILED, PASSED), (PASSED, PASSED)): CANDIDATE,
        ((BROKEN, PASSED), (PASSED, PASSED)): CANDIDATE,
        ((FAILED, PASSED), (PASSED, FAILED)): "",
        ((NOT_APPLICABLE, NOT_APPLICABLE), (NOT_APPLICABLE, NOT_APPLICABLE)): "",
    }
    graded = [{"correct": correct, "tagged": tagged} for correct, tagged in right]
    assert list(right.values()) == [judged(pair_of(graded=each), GRADERS).right for each in graded]
    assert "" == judged(pair_of(production_outcome="timeout"), GRADERS).right


def test_a_person_is_learned_from_and_never_outvoted():
    """
    The person's answer is the one to learn, whatever graders say; it is preferred where they do not object.
    """
    agreed = judged(pair_of(human=True), GRADERS)
    assert (HUMAN, HUMAN, ("people", "correct")) == (agreed.right, agreed.preferred, agreed.preferred_by)
    objected = judged(pair_of(human=True, graded={"correct": (FAILED, PASSED)}), GRADERS)
    assert (HUMAN, "") == (objected.right, objected.preferred)


@given(pairs())
@settings(max_examples=60, deadline=None)
def test_preferences_hold_what_they_promise(pair):
    """
    Nobody is preferred who failed where the other one passed, and a person is never the rejected one.
    """
    found = judged(pair, GRADERS)
    assert not (set(found.worse) & set(found.better))
    if found.preferred:
        rejected = CANDIDATE if found.preferred == found.reference else found.reference
        graded = [by_role for name, by_role in pair.grades.items() if name in GRADERS]
        outcomes = [(by_role[found.preferred].outcome, by_role[rejected].outcome) for by_role in graded]
        assert (PASSED, FAILED) in outcomes
        assert (FAILED, PASSED) not in outcomes
        assert HUMAN != rejected
        assert is_chosen(found, "disagreeing")
    if is_chosen(found, "corrected"):
        assert is_chosen(found, "failed")
    assert is_chosen(found, None) == any(is_chosen(found, only) for only in ("failed", "disagreeing", "corrected"))
    assert is_chosen(found, "all")


def test_time_and_money_say_nothing_of_a_text():
    """
    Graders of latency and cost judge no answer unless they are named.
    """
    kinds = {"fast": "latency", "cheap": "cost", "correct": "numeric", "fine": "python"}
    assert {"correct", "fine"} == judging([GraderSpec(name, kind, (), {}) for name, kind in kinds.items()])
