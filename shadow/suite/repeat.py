"""Compare two runs over one suite: every grade of every request must be the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.records.grades import Grade

NO_GRADE: Final = "none"

GradeKey = tuple[str, str, str, str]
"""Comparison, request id, grader and role."""
Grades = Mapping[GradeKey, Grade]


@dataclass(frozen=True, slots=True)
class Difference:
    """One grade that two runs do not agree on; each as its outcome, and its score where it has one."""

    request_id: str
    comparison: str
    grader: str
    role: str
    first: str
    second: str

    @property
    def sentence(self) -> str:
        """For people."""
        beside = "" if self.comparison == CANDIDATE_PRODUCTION else f" ({self.comparison})"
        return f"{self.request_id}: {self.grader} of {self.role}{beside}: {self.first}, then {self.second}"


def differences(first: Grades, second: Grades) -> list[Difference]:
    """What the two runs do not agree on, in the order of the first one; reasons are words and may differ."""
    found = []
    for key in dict.fromkeys((*first, *second)):
        one, other = _shown(first.get(key)), _shown(second.get(key))
        if one != other:
            comparison, request_id, grader, role = key
            found.append(Difference(request_id, comparison, grader, role, one, other))
    return found


def _shown(grade: Grade | None) -> str:
    if grade is None:
        return NO_GRADE
    # The shortest text that gives the same number back, so that equal texts are equal scores.
    return grade.outcome if grade.score is None else f"{grade.outcome} {grade.score!r}"


def noise(found: Sequence[Difference], grades: Grades) -> dict[str, float]:
    """Share of each grader's grades that differ, of those that differ at all or were given; in [0, 1]."""
    given: dict[str, int] = {}
    for _, _, grader, _ in grades:
        given[grader] = given.get(grader, 0) + 1
    differing: dict[str, int] = {}
    for difference in found:
        differing[difference.grader] = differing.get(difference.grader, 0) + 1
    names = dict.fromkeys((*given, *differing))
    return {name: min(1.0, differing.get(name, 0) / max(given.get(name, 0), 1)) for name in names}
