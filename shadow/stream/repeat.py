"""Count how production's second answers are graded beside its first ones: what the gate's tests find there is false.

Pure. The baseline stands in the candidate's place, graded by the graders that ask nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from shadow.records.comparisons import CANDIDATE, PRODUCTION
from shadow.records.grades import FAILED, PASSED, Grade
from shadow.records.tallies import Key, Tally


def count_repeated(
    tally: Tally,
    wanted: Mapping[str, Collection[str]],
    slices: Sequence[str],
    cell: int,
    grades: Mapping[str, Mapping[str, Grade]],
) -> None:
    """Count one request that production has answered twice.

    Args:
        wanted: Slices in which each grader counts, by grader.
        slices: Slices in which the request counts.
        cell: Cluster cell of its sampling key.
        grades: Settled grades by grader, the baseline's as the candidate's.
    """
    for grader, by_role in grades.items():
        first, second = by_role[PRODUCTION].outcome, by_role[CANDIDATE].outcome
        if first not in (PASSED, FAILED):
            continue
        index = (0 if second == PASSED else 1) + (0 if first == PASSED else 2)
        for slice in slices:
            if slice not in wanted.get(grader, ()):
                continue
            key = Key(slice, "graders", grader)
            tally.vector(key)[index] += 1
            values = tally.cell(key, cell)
            values[0] += 1
            values[1] += (second == PASSED) - (first == PASSED)
