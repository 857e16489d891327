"""Grade both answers of a pair with every grader that applies.

Pure. What a grader must ask a service for is returned as an Ask; its answer comes back through the log.
A model that timed out or failed has failed every grader; what a grader cannot read is its own trouble
unless only the candidate's answer is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shadow.graders.grader import Graded, Grader
from shadow.graders.guard import grade_safely
from shadow.records.answers import FAILURES
from shadow.records.comparisons import CANDIDATE, PRODUCTION
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Ask, Grade

SLICES_MAX: Final = 4096
"""Sets of slices that are remembered."""
_DECIDED: Final = frozenset({PASSED, FAILED})


@dataclass(slots=True)
class PairGrades:
    """Grades of one pair.

    Args:
        known: Grade by grader, then role.
        asks: What must be asked first, by (grader, role).
    """

    known: dict[str, dict[str, Grade]] = field(default_factory=dict)
    asks: dict[tuple[str, str], Ask] = field(default_factory=dict)


class Applicable:
    """Which graders of a run apply to a request.

    Args:
        graders: Graders of the run.
    """

    def __init__(self, graders: Sequence[Grader]) -> None:
        self._graders = graders
        self._by_slices: dict[tuple[str, ...], tuple[Grader, ...]] = {}

    def graders_of(self, slices: tuple[str, ...]) -> tuple[Grader, ...]:
        """The graders that apply in any of these slices, `all` included, whether or not the request counts there."""
        found = self._by_slices.get(slices)
        if found is None:
            if len(self._by_slices) >= SLICES_MAX:
                self._by_slices.clear()
            found = self._by_slices[slices] = tuple(
                grader for grader in self._graders if not grader.slices or not set(slices).isdisjoint(grader.slices)
            )
        return found


def grade_pair(
    graders: Sequence[Grader],
    production: Graded,
    candidate: Graded,
    recorded: Mapping[tuple[str, str], Grade],
) -> PairGrades:
    """Grade a complete pair.

    Args:
        graders: Graders that apply to the request.
        recorded: Grades already read from the log, by (grader, role).
    """
    grades = PairGrades()
    first_role, second_role = production.role, candidate.role
    first_failure, second_failure = _failure_of(production), _failure_of(candidate)
    for grader in graders:
        name = grader.name
        first: Grade | Ask = (
            first_failure
            or (recorded.get((name, first_role)) if recorded else None)
            or grade_safely(grader, production, None)
        )
        second: Grade | Ask = (
            second_failure
            or (recorded.get((name, second_role)) if recorded else None)
            or grade_safely(grader, candidate, production)
        )
        if isinstance(first, Grade) and isinstance(second, Grade):
            grades.known[name] = {first_role: first, second_role: second}
            continue
        by_role = grades.known[name] = {}
        for role, grade in ((first_role, first), (second_role, second)):
            if isinstance(grade, Ask):
                grades.asks[name, role] = grade
            else:
                by_role[role] = grade
    return grades


def _failure_of(answer: Graded) -> Grade | None:
    """What every grader says of a call that timed out or failed; None for any other answer."""
    return Grade(FAILED, None, f"the model's answer is a {answer.outcome}") if answer.outcome in FAILURES else None


def settled(
    graded: Mapping[str, Mapping[str, Grade]], reference: str, candidate: str
) -> dict[str, Mapping[str, Grade]]:
    """The grades of a pair as they count, by grader, then `production` for the reference, and `candidate`.

    Args:
        graded: Grades by grader, then role.
        reference: Role of the reference.
        candidate: Role of the candidate.
    """
    grades: dict[str, Mapping[str, Grade]] = {}
    is_named = (reference, candidate) == (PRODUCTION, CANDIDATE)
    for grader, by_role in graded.items():
        first, second = by_role[reference], by_role[candidate]
        if first.outcome in _DECIDED and second.outcome in _DECIDED and is_named:
            grades[grader] = by_role
        else:
            first, second = settle(first, second)
            grades[grader] = {PRODUCTION: first, CANDIDATE: second}
    return grades


def settle(production: Grade, candidate: Grade) -> tuple[Grade, Grade]:
    """Settle a pair of grades of which one may be broken or not applicable.

    Returns:
        Both grades as they count: a grade broken on the candidate's answer alone is a failure, a failed
        call is paired with production's applicability, and anything else that is not on both sides is
        not applicable on both.
    """
    if candidate.outcome == BROKEN and production.outcome not in (BROKEN, NOT_APPLICABLE):
        candidate = Grade(FAILED, None, f"the grader could not read the candidate's answer: {candidate.reason}")
    if NOT_APPLICABLE in (production.outcome, candidate.outcome):
        none = Grade(NOT_APPLICABLE)
        return none, none
    if BROKEN in (production.outcome, candidate.outcome):
        broken = Grade(BROKEN, None, production.reason or candidate.reason)
        return broken, broken
    return production, candidate
