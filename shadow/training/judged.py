"""What the grades of a pair say of its two answers: who failed what, and which answer is preferred. Pure.

A preference is only what the grades agree on. Where one grader passes only the candidate's answer and another one only
production's, nobody has said which is better, and a reward model alone never outvotes a grader that can verify.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from shadow.records.answers import ANSWERED
from shadow.records.comparisons import CANDIDATE, HUMAN, ROLES_BY_COMPARISON
from shadow.records.grades import BROKEN, FAILED, PASSED, Grade, GraderSpec
from shadow.records.pairs import GradedPair

NOT_OF_THE_TEXT: Final = frozenset({"latency", "cost"})
"""Kinds of graders that say nothing of what an answer says."""
PEOPLE: Final = "people"
"""Who prefers a person's answer, beside the graders that agree."""


def judging(specs: Iterable[GraderSpec]) -> frozenset[str]:
    """Names of the graders that judge what an answer says."""
    return frozenset(spec.name for spec in specs if spec.kind not in NOT_OF_THE_TEXT)


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair as some graders see it.

    Args:
        reference: Role of the answer beside the candidate's, `production` or `human`.
        failed: Graders at which the candidate failed, in the order of their names.
        worse: Graders at which the candidate failed and the reference passed.
        better: Graders at which the candidate passed and the reference failed.
        is_reference_right: Whether the reference passed one grader at least, and every one that applies.
        is_candidate_right: The same of the candidate.
    """

    reference: str
    failed: tuple[str, ...]
    worse: tuple[str, ...]
    better: tuple[str, ...]
    is_reference_right: bool
    is_candidate_right: bool

    @property
    def preferred(self) -> str:
        """Role whose answer is preferred; empty where nobody said so. A person's answer is never the worse one."""
        if self.worse and not self.better:
            return self.reference
        if self.better and not self.worse and self.reference != HUMAN:
            return CANDIDATE
        return ""

    @property
    def preferred_by(self) -> tuple[str, ...]:
        """Who prefers it: graders, and `people` where a person answered."""
        if not self.preferred:
            return ()
        graders = self.worse or self.better
        return (PEOPLE, *graders) if self.reference == HUMAN else graders

    @property
    def is_corrected(self) -> bool:
        """Whether a person answered a request at which the candidate failed."""
        return self.reference == HUMAN and bool(self.failed)

    @property
    def right(self) -> str:
        """Role of the answer to learn: a person's, else production's or the candidate's if all graders passed it."""
        if self.reference == HUMAN or self.is_reference_right:
            return self.reference
        return CANDIDATE if self.is_candidate_right else ""


def judged(pair: GradedPair, graders: frozenset[str]) -> Judged:
    """Read the grades of a pair.

    Args:
        graders: The graders that count; the others' grades are passed over.
    """
    reference = ROLES_BY_COMPARISON[pair.comparison][0]
    failed, worse, better = [], [], []
    for name in sorted(graders & pair.grades.keys()):
        ours, theirs = _outcome(pair.grades[name], CANDIDATE), _outcome(pair.grades[name], reference)
        if ours == FAILED:
            failed.append(name)
        if (ours, theirs) == (FAILED, PASSED):
            worse.append(name)
        if (ours, theirs) == (PASSED, FAILED):
            better.append(name)
    return Judged(
        reference=reference,
        failed=tuple(failed),
        worse=tuple(worse),
        better=tuple(better),
        is_reference_right=pair.production_outcome == ANSWERED and _is_right(pair, graders, reference),
        is_candidate_right=pair.candidate_outcome == ANSWERED and _is_right(pair, graders, CANDIDATE),
    )


def _outcome(by_role: Mapping[str, Grade], role: str) -> str:
    grade = by_role.get(role)
    return grade.outcome if grade is not None else ""


def _is_right(pair: GradedPair, graders: frozenset[str], role: str) -> bool:
    outcomes = {_outcome(by_role, role) for name, by_role in pair.grades.items() if name in graders}
    return PASSED in outcomes and outcomes.isdisjoint({FAILED, BROKEN})
