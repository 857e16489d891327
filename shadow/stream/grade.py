"""Grade both answers of a pair with every grader that applies.

Pure. What a grader must ask a service for is returned as an Ask; its answer comes back through the log.
A model that timed out or failed has failed every grader; what a grader cannot read is its own trouble
unless only the candidate's answer is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shadow.graders.grader import Graded, Grader
from shadow.graders.guard import grade_safely
from shadow.records.answers import FAILURES
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, Ask, Grade


@dataclass(slots=True)
class PairGrades:
    """Grades of one pair.

    Args:
        known: Grade by grader, then role.
        asks: What must be asked first, by (grader, role).
    """

    known: dict[str, dict[str, Grade]] = field(default_factory=dict)
    asks: dict[tuple[str, str], Ask] = field(default_factory=dict)


def grade_pair(
    graders: Sequence[Grader],
    slices: Sequence[str],
    production: Graded,
    candidate: Graded,
    recorded: Mapping[tuple[str, str], Grade],
) -> PairGrades:
    """Grade a complete pair.

    Args:
        graders: Graders of the run.
        slices: Slices of the request, `all` included, whether or not it counts in them.
        recorded: Grades already read from the log, by (grader, role).
    """
    grades = PairGrades()
    for grader in graders:
        if grader.slices and not any(slice in grader.slices for slice in slices):
            continue
        by_role = grades.known[grader.name] = {}
        for answer, other in ((production, None), (candidate, production)):
            if answer.outcome in FAILURES:
                by_role[answer.role] = Grade(FAILED, None, f"the model's answer is a {answer.outcome}")
                continue
            known = recorded.get((grader.name, answer.role))
            grade = known if known is not None else grade_safely(grader, answer, other)
            if isinstance(grade, Ask):
                grades.asks[grader.name, answer.role] = grade
            else:
                by_role[answer.role] = grade
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
