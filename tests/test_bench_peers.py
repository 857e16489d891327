"""The comparison with other engines voids figures for wrong counts."""

from __future__ import annotations

from benchmarks.peers.job import Counts
from benchmarks.peers.verify import differences
from shadow.records.tallies import Key, Tally

GRADERS = ("first", "second")
PAIRS = 3


def tallies() -> dict[int, Tally]:
    """What the comparator counted: three pairs in minute 7, one of them in the slice `code` too."""
    tally = Tally()
    for slice, paired in (("all", 3), ("code", 1)):
        tally.vector(Key(slice, "classes", ""))[0] = paired
    tally.vector(Key("all", "graders", "first"))[:] = [2, 1, 0, 0]
    tally.vector(Key("code", "graders", "second"))[:] = [0, 0, 0, 1]
    return {7: tally}


def counts() -> Counts:
    """The same as an engine counts it: pairs, then four places for each grader, everywhere."""
    return {(7, "all"): [3, 2, 1, 0, 0, 0, 0, 2, 1], (7, "code"): [1, 1, 0, 0, 0, 0, 0, 0, 1]}


def test_equal_counts_have_no_differences() -> None:
    """What the comparator does not count, grades of a grader in a slice that no rule names, is not compared."""
    assert differences(counts(), PAIRS, tallies(), GRADERS, is_whole=True) == []


def test_one_grade_in_the_wrong_place_is_a_difference() -> None:
    """A single pair graded otherwise is named with its minute, its slice and its grader."""
    wrong = counts()
    wrong[7, "all"][1:3] = [3, 0]
    found = differences(wrong, PAIRS, tallies(), GRADERS, is_whole=True)
    assert found == ["minute 7, slice all, grader first: [3, 0, 0, 0] here, [2, 1, 0, 0] there"]


def test_a_dropped_pair_is_a_difference() -> None:
    """An engine that dropped a pair as late has no figures, even where the comparator saw other minutes only."""
    wrong = counts()
    wrong[7, "all"][0] = 2
    assert differences(wrong, PAIRS, {}, GRADERS, is_whole=False) == ["it counted 2 of 3 pairs"]
    assert len(differences(wrong, PAIRS, tallies(), GRADERS, is_whole=True)) == 2


def test_a_slice_that_only_one_of_the_two_has_is_a_difference() -> None:
    """A slice's minute that is missing, or too many, is counted."""
    wrong = counts()
    wrong[8, "code"] = wrong.pop((7, "code"))
    found = differences(wrong, PAIRS, tallies(), GRADERS, is_whole=True)
    assert found == ["2 slices' minutes were counted by one of the two only"]


def test_minutes_beyond_the_comparators_are_not_compared() -> None:
    """Kafka Streams reads more minutes than the comparator; those count for the sum alone."""
    longer = counts()
    longer[8, "all"] = [2, 2, 0, 0, 0, 2, 0, 0, 0]
    assert differences(longer, PAIRS + 2, tallies(), GRADERS, is_whole=False) == []


def test_pairs_that_the_comparator_missed_are_a_difference() -> None:
    """A request that the comparator counted as missing is no pair on its side."""
    ours = tallies()
    ours[7].vector(Key("all", "classes", ""))[:2] = [2, 1]
    found = differences(counts(), PAIRS, ours, GRADERS, is_whole=True)
    assert len(found) == 1
    assert found[0].startswith("minute 7, slice all: 3 pairs here")
