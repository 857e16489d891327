"""Call a grader so that nothing it does can stop the fold: what is not a sound grade is a broken one. Pure."""

from __future__ import annotations

import math
from typing import Final

from shadow.graders.graded import Graded, Grader
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Ask, Grade

OUTCOMES: Final = (PASSED, FAILED, NOT_APPLICABLE, BROKEN)
REASON_CHARACTERS_MAX: Final = 300
CLEAN_MAX: Final = 4096
_CLEAN: Final = {""}
"""Reasons that were found to need no change; what is found does not depend on what is remembered."""


def grade_safely(grader: Grader, answer: Graded, other: Graded | None) -> Grade | Ask:
    """Grade an answer; an exception or an unsound result becomes a broken grade with the reason."""
    try:
        grade = grader.grade(answer, other)
    # A foreign grader may raise anything, and may even try to end the process.
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- counted as broken, with its words as the reason
        return broken(error)
    # Nearly every grade is sound, without a score, and gives a reason that was seen before: 0.1 µs instead of 1.9.
    if (
        type(grade) is Grade
        and grade.score is None
        and type(grade.reason) is str
        and grade.reason in _CLEAN
        and type(grade.outcome) is str
        and grade.outcome in OUTCOMES
    ):
        return grade
    if isinstance(grade, Ask) and grader.is_recorded:
        return grade
    return checked(grade)


def read_safely(grader: Grader, reply: bytes) -> Grade:
    """Read a service's reply; an exception or an unsound result becomes a broken grade with the reason."""
    try:
        grade = grader.read(reply)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- counted as broken, with its words as the reason
        return broken(error)
    return checked(grade)


def broken(error: BaseException) -> Grade:
    """The grade that an exception is worth."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 -- a foreign exception may fail to say what it is; its type is said instead
        words = ""
    return Grade(BROKEN, None, _cut(f"{type(error).__name__}: {words}" if words else type(error).__name__))


def checked(grade: object) -> Grade:
    """The grade itself where it is sound, else a broken one that says what is wrong."""
    if not isinstance(grade, Grade):
        return Grade(BROKEN, None, f"the grader returned a {type(grade).__name__}, must be a Grade")
    if not isinstance(grade.outcome, str) or grade.outcome not in OUTCOMES:
        return Grade(BROKEN, None, f"the grader's outcome is none of {', '.join(OUTCOMES)}")
    score: object = grade.score
    if score is not None:
        if isinstance(score, bool) or not isinstance(score, int | float):
            return Grade(BROKEN, None, f"the grader's score is a {type(score).__name__}, must be a number in [0, 1]")
        if not (0 <= score <= 1 and math.isfinite(score)):
            return Grade(BROKEN, None, "the grader's score is outside [0, 1]")
        score = float(score)
    reason: object = grade.reason
    if not isinstance(reason, str):
        return Grade(BROKEN, None, f"the grader's reason is a {type(reason).__name__}, must be a text")
    return Grade(grade.outcome, score, _cut(reason))


def _cut(reason: str) -> str:
    if len(reason) > REASON_CHARACTERS_MAX or reason not in _CLEAN:
        # Reasons are written to the log, which takes no lone surrogates.
        clean = " ".join(reason[: 4 * REASON_CHARACTERS_MAX].split()).encode("utf-8", "replace").decode()
        if clean != reason or len(clean) > REASON_CHARACTERS_MAX:
            return clean if len(clean) <= REASON_CHARACTERS_MAX else f"{clean[: REASON_CHARACTERS_MAX - 1]}…"
        if len(_CLEAN) >= CLEAN_MAX:
            _CLEAN.clear()
        _CLEAN.add(clean)
    return reason
