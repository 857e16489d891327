"""Call a grader so that nothing it does can stop the fold: what is not a sound grade is a broken one. Pure."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, TypeGuard

from shadow.graders.graded import Graded, Grader
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Ask, Grade

OUTCOMES: Final = (PASSED, FAILED, NOT_APPLICABLE, BROKEN)
REASON_CHARACTERS_MAX: Final = 300


def grade_safely(grader: Grader, answer: Graded, other: Graded | None) -> Grade | Ask:
    """Grade an answer; an exception or an unsound result becomes a broken grade with the reason."""
    try:
        grade = grader.grade(answer, other)
    # A foreign grader may raise anything, and may even try to end the process.
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- counted as broken, with its words as the reason
        return broken(error)
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
    if _is_sound(grade):
        return grade
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


def _is_sound(grade: object) -> TypeGuard[Grade]:
    """Whether a grade without a score can stay as it is, which is the case of nearly every one."""
    return (
        type(grade) is Grade
        and grade.score is None
        and type(grade.outcome) is str
        and grade.outcome in OUTCOMES
        and type(grade.reason) is str
        and _cut(grade.reason) == grade.reason
    )


def _cut(reason: str) -> str:
    # Most reasons are said again and again; a short one is looked up in 0.1 µs and worked out in 1 µs.
    return _known_cut(reason) if len(reason) <= REASON_CHARACTERS_MAX else _new_cut(reason)


@lru_cache(maxsize=4096)
def _known_cut(reason: str) -> str:
    return _new_cut(reason)


def _new_cut(reason: str) -> str:
    # Reasons are written to the log, which takes no lone surrogates.
    reason = " ".join(reason[: 4 * REASON_CHARACTERS_MAX].split()).encode("utf-8", "replace").decode()
    return reason if len(reason) <= REASON_CHARACTERS_MAX else f"{reason[: REASON_CHARACTERS_MAX - 1]}…"
