"""The worst pairs, and examples for rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.records.comparisons import CANDIDATE, PRODUCTION
from shadow.records.grades import FAILED, NOT_APPLICABLE, PASSED, Grade
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Equivalent,
    Floor,
    Improve,
    Latency,
    NoRegression,
    NoRewardHacking,
    Quality,
)
from shadow.training.seen import BLOCK_BYTES, Seen
from shadow.training.worst import Worst, example_pairs, worst_of
from tests.training.builders import GRADERS, completion, pair_of, pairs


def offsets(found):
    return [pair.request_offset for pair in found]


def position_of(pair):
    return pair.comparison, pair.request_partition, pair.request_offset


def worst_offsets(shown, slice=None, limit=10, failed=False, graders=GRADERS):
    worst = Worst(worst_of(slice, graders, failed=failed), limit)
    for pair in shown:
        worst.add(pair)
    return offsets(worst.pairs())


SHOWN = [
    pair_of(0, graded={"correct": (PASSED, PASSED)}),
    pair_of(1, graded={"correct": (FAILED, FAILED)}),
    pair_of(2, graded={"correct": (PASSED, FAILED), "tagged": (PASSED, FAILED)}),
    pair_of(3, graded={"correct": (PASSED, FAILED)}, slices=("all", "even")),
    pair_of(4, graded={"correct": (FAILED, PASSED)}, slices=("even",)),
    pair_of(5, graded={"correct": (PASSED, FAILED)}, slices=("all", "even")),
]


def test_regressions_come_first_then_failures():
    """
    More regressions are worse than fewer, any is worse than a failure on both sides; position decides between equals.
    """
    assert [2, 3, 5, 1, 0, 4] == worst_offsets(SHOWN)
    assert [2, 3, 5, 1] == worst_offsets(SHOWN, failed=True)
    assert [2] == worst_offsets(SHOWN, failed=True, graders=frozenset({"tagged"}))
    assert [3, 5, 4] == worst_offsets(SHOWN, slice="even")
    assert [2, 3] == worst_offsets(SHOWN, limit=2)


@given(st.lists(pairs(), max_size=8, unique_by=position_of), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_what_is_kept_does_not_depend_on_the_order(shown, limit, draw):
    """
    The worst of any order are the beginning of all of them sorted.
    """
    how_bad = worst_of(None, GRADERS, failed=False)
    whole, part = Worst(how_bad, len(shown) + 1), Worst(how_bad, limit)
    for pair in shown:
        whole.add(pair)
    for pair in draw.sample(shown, len(shown)):
        part.add(pair)
    assert whole.pairs()[:limit] == part.pairs()
    assert len(shown) == part.found


def scored(offset, theirs, ours):
    pair = pair_of(offset, graded={"correct": (PASSED, PASSED)})
    grades = {"correct": {PRODUCTION: Grade(PASSED, theirs), CANDIDATE: Grade(PASSED, ours)}}
    return replace(pair, grades=grades)


def test_lost_scores_are_examples_of_a_lower_quality():
    """
    Two answers that both passed, of which the candidate's scored lower.
    """
    shown = [scored(0, 0.9, 0.8), scored(1, 0.9, 0.5), scored(2, 0.5, 0.9)]
    assert [1, 0] == offsets(example_pairs(shown, Quality({"correct": 1.0})))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (NoRegression("correct"), [2, 3, 5]),
        (NoRegression("correct", slice="even"), [3, 5]),
        (Improve("correct"), [2, 3, 5]),
        (Quality({"correct": 1.0, "tagged": 1.0}), [2, 3, 5]),
        (Floor("correct"), [2, 3, 5, 1]),
        (Cap("tagged"), [2]),
        (Equivalent("correct", slice="even"), [3, 5, 4]),
        (NoRegression("correct", against="human"), [9]),
    ],
    ids=lambda value: value.__class__.__name__ if not isinstance(value, list) else "",
)
def test_examples_are_pairs_that_speak_against_the_rule(rule, expected):
    """
    Of its comparison, its slice and its graders, the worst first.
    """
    assert expected == offsets(example_pairs([*SHOWN, pair_of(9, human=True)], rule))


def test_examples_of_rules_without_graders():
    """
    Slower, dearer and differing answers, and rewards for what a verifiable grader failed.
    """
    slow = [pair_of(each, candidate_duration_us=1000 + 500 * each) for each in range(3)]
    assert [2, 1] == offsets(example_pairs(slow, Latency()))
    dear = [pair_of(each, candidate_cost_micro=10 + each) for each in range(3)]
    assert [2, 1] == offsets(example_pairs(dear, Cost()))
    differing = [pair_of(0), pair_of(1, candidate_body=completion(" 4\n"))]
    assert [0] == offsets(example_pairs(differing, Agreement()))
    hacked = [
        pair_of(0, graded={"correct": (PASSED, FAILED), "reward": (PASSED, PASSED)}),
        pair_of(1, graded={"correct": (PASSED, FAILED), "reward": (PASSED, FAILED)}),
        pair_of(2, graded={"correct": (PASSED, PASSED), "reward": (PASSED, PASSED)}),
        pair_of(3, graded={"correct": (PASSED, NOT_APPLICABLE), "reward": (PASSED, PASSED)}),
    ]
    assert [0] == offsets(example_pairs(hacked, NoRewardHacking("reward", ("correct",))))


def test_five_examples_are_enough():
    """
    The limit is kept, and the first by position stand for the equal ones.
    """
    assert [0, 1, 2, 3, 4] == offsets(example_pairs([pair_of(each) for each in reversed(range(20))], Floor("correct")))


@given(st.lists(st.tuples(st.sampled_from([0, 1, BLOCK_BYTES * 8, 2**62]), st.booleans()), max_size=12))
@settings(max_examples=50, deadline=None)
def test_a_repeat_is_known(written):
    """
    A pair is new once, wherever its request stands, and a person's is another one than production's.
    """
    seen, known = Seen(), set()
    for offset, is_human in written:
        assert ((offset, is_human) not in known) == seen.add(pair_of(offset, human=is_human))
        known.add((offset, is_human))
