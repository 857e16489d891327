"""Write a graded pair's Avro binary directly, in about a quarter of the general writer's time.

A comparator writes one for each pair, and most of what stands in it stood in others before: names, outcomes and
reasons are encoded once and remembered. Whatever is not as usual is left to the general writer, which refuses what
must be refused; both give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from typing import Final

from shadow.adapters.avro_parts import END, Unusual, long_of, text_of, texts_of
from shadow.records.answers import OUTCOMES
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Grade
from shadow.records.pairs import GradedPair

_OUTCOMES: Final = frozenset(OUTCOMES)
_GRADES: Final = frozenset({PASSED, FAILED, NOT_APPLICABLE, BROKEN})
_REMEMBERED_CHARACTERS_MAX: Final = 400
_NO_SCORE: Final = b"\x00"
_SCORE: Final = struct.Struct("<Bd")


def pair_bytes(pair: GradedPair) -> bytes:
    """The Avro binary of a pair.

    Raises:
        Unusual, AttributeError, TypeError, UnicodeError: If a value is of another type or range than is usual.
    """
    if pair.production_outcome not in _OUTCOMES or pair.candidate_outcome not in _OUTCOMES:
        raise Unusual
    if not 0 <= pair.request_partition < 2**31 or pair.request_offset < 0:
        raise Unusual
    request_id, key = pair.request_id.encode(), pair.key.encode()
    bodies = (pair.request_body, pair.production_body, pair.candidate_body)
    request, production, candidate = bodies
    if not type(request) is type(production) is type(candidate) is bytes:
        raise Unusual
    return b"".join(
        (
            text_of(pair.run),
            text_of(pair.comparison),
            long_of(pair.request_partition),
            long_of(pair.request_offset),
            long_of(len(request_id)),
            request_id,
            long_of(len(key)),
            key,
            long_of(pair.tile),
            texts_of(pair.slices),
            *_grades(pair.grades),
            long_of(len(request)),
            request,
            text_of(pair.production_outcome),
            long_of(len(production)),
            production,
            long_of(pair.production_duration_us),
            long_of(pair.production_cost_micro),
            text_of(pair.candidate_outcome),
            long_of(len(candidate)),
            candidate,
            long_of(pair.candidate_duration_us),
            long_of(pair.candidate_cost_micro),
        )
    )


def _grades(grades: Mapping[str, Mapping[str, Grade]]) -> list[bytes]:
    if len(grades) == 0:
        return [END]
    parts = [long_of(len(grades))]
    for grader, by_role in grades.items():
        values: list[str] = [grader]
        for role, grade in by_role.items():
            if grade.score is not None or len(grade.reason) > _REMEMBERED_CHARACTERS_MAX:
                parts.append(_new_grades(grader, by_role))
                break
            values += (role, grade.outcome, grade.reason)
        else:
            parts.append(_plain_grades(*values))
    parts.append(END)
    return parts


@lru_cache(maxsize=8192, typed=True)
def _plain_grades(grader: str, *values: str) -> bytes:
    """The grades of one grader, none of which has a score: role, outcome and reason of each."""
    by_role = {}
    for role, outcome, reason in zip(values[::3], values[1::3], values[2::3], strict=True):
        by_role[role] = Grade(outcome, None, reason)
    return _new_grades(grader, by_role)


def _new_grades(grader: str, by_role: Mapping[str, Grade]) -> bytes:
    parts = [text_of(grader)]
    if len(by_role) > 0:
        parts.append(long_of(len(by_role)))
        for role, grade in by_role.items():
            parts += (text_of(role), _new_grade(grade.outcome, grade.score, grade.reason))
    return b"".join((*parts, END))


def _new_grade(outcome: str, score: float | None, reason: str) -> bytes:
    if outcome not in _GRADES or not (score is None or (type(score) is float and isfinite(score))):
        raise Unusual
    encoded = reason.encode()
    return text_of(outcome) + (_NO_SCORE if score is None else _SCORE.pack(2, score)) + long_of(len(encoded)) + encoded
