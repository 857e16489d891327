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

from shadow.records.answers import OUTCOMES
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Grade
from shadow.records.pairs import GradedPair

_OUTCOMES: Final = frozenset(OUTCOMES)
_GRADES: Final = frozenset({PASSED, FAILED, NOT_APPLICABLE, BROKEN})
_REMEMBERED_CHARACTERS_MAX: Final = 400
_END: Final = b"\x00"
_NO_SCORE: Final = b"\x00"
_SCORE: Final = struct.Struct("<Bd")


class Unusual(ValueError):
    """The pair must go through the general writer."""


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
            _text(pair.run),
            _text(pair.comparison),
            _long(pair.request_partition),
            _long(pair.request_offset),
            _long(len(request_id)),
            request_id,
            _long(len(key)),
            key,
            _long(pair.tile),
            _texts(pair.slices),
            *_grades(pair.grades),
            _long(len(request)),
            request,
            _text(pair.production_outcome),
            _long(len(production)),
            production,
            _long(pair.production_duration_us),
            _long(pair.production_cost_micro),
            _text(pair.candidate_outcome),
            _long(len(candidate)),
            candidate,
            _long(pair.candidate_duration_us),
            _long(pair.candidate_cost_micro),
        )
    )


def _grades(grades: Mapping[str, Mapping[str, Grade]]) -> list[bytes]:
    if len(grades) == 0:
        return [_END]
    parts = [_long(len(grades))]
    for grader, by_role in grades.items():
        values: list[str] = [grader]
        for role, grade in by_role.items():
            if grade.score is not None or len(grade.reason) > _REMEMBERED_CHARACTERS_MAX:
                parts.append(_new_grades(grader, by_role))
                break
            values += (role, grade.outcome, grade.reason)
        else:
            parts.append(_plain_grades(*values))
    parts.append(_END)
    return parts


@lru_cache(maxsize=8192, typed=True)
def _plain_grades(grader: str, *values: str) -> bytes:
    """The grades of one grader, none of which has a score: role, outcome and reason of each."""
    by_role = {}
    for role, outcome, reason in zip(values[::3], values[1::3], values[2::3], strict=True):
        by_role[role] = Grade(outcome, None, reason)
    return _new_grades(grader, by_role)


def _new_grades(grader: str, by_role: Mapping[str, Grade]) -> bytes:
    parts = [_text(grader)]
    if len(by_role) > 0:
        parts.append(_long(len(by_role)))
        for role, grade in by_role.items():
            parts += (_text(role), _new_grade(grade.outcome, grade.score, grade.reason))
    return b"".join((*parts, _END))


def _new_grade(outcome: str, score: float | None, reason: str) -> bytes:
    if outcome not in _GRADES or not (score is None or (type(score) is float and isfinite(score))):
        raise Unusual
    encoded = reason.encode()
    return _text(outcome) + (_NO_SCORE if score is None else _SCORE.pack(2, score)) + _long(len(encoded)) + encoded


@lru_cache(maxsize=8192, typed=True)
def _text(text: str) -> bytes:
    encoded = text.encode()
    return _long(len(encoded)) + encoded


@lru_cache(maxsize=8192)
def _texts(texts: tuple[str, ...]) -> bytes:
    if not texts:
        return _END
    return b"".join((_long(len(texts)), *map(_text, texts), _END))


def _new_long(number: int) -> bytes:
    if type(number) is not int or not -(2**63) <= number < 2**63:
        raise Unusual
    rest = (number << 1) ^ (number >> 63)
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


_SHORT: Final = [_new_long(number) for number in range(4096)]


def _long(number: int) -> bytes:
    return _SHORT[number] if 0 <= number < 4096 and type(number) is int else _new_long(number)
