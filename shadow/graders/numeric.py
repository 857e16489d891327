"""`numeric`: the number in the answer is the expected one within a tolerance.

Numbers are compared as exact fractions, so 2^53 + 1 is not 2^53 and 0.1 is 0.1. Nothing an answer may contain
(NaN, 1e400, 5,000 digits, digits of other scripts) raises or makes a large number: it is no number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

from shadow.graders.expected import MISSING, expected_in_request, path_from_text
from shadow.graders.graded import Graded
from shadow.graders.numbers import number_from_json, number_from_text, number_text
from shadow.graders.rule import Plain, failed, not_applicable, passed, shown
from shadow.graders.tag import content_of
from shadow.jsonpath import JsonPath
from shadow.records.grades import BROKEN, Grade


@dataclass(frozen=True)
class Numeric(Plain):
    """Passes where |answer - expected| is at most the larger of both tolerances.

    Production's own answer is the expected one where no `expected` is configured; then production passes by
    definition where it states a number. A request without an expectation is not applicable, one whose
    expectation is no number is broken, and an answer without a number has failed.

    Args:
        tag: The number stands in the last `<tag>…</tag>`; None: it is the whole text.
        expected: `json:` and the path of the expected number (or text of one) in the request.
        tolerance: Relative tolerance, at least 0.
        tolerance_abs: Absolute tolerance, at least 0.
    """

    kind: ClassVar[str] = "numeric"

    tag: str | None = "answer"
    expected: str | None = None
    tolerance: float = 1e-6
    tolerance_abs: float = 0.0

    def __post_init__(self) -> None:
        _ = self._path
        for name, value in (("tolerance", self.tolerance), ("tolerance_abs", self.tolerance_abs)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: read {value}, must be a finite number of at least 0")

    @cached_property
    def _path(self) -> JsonPath | None:
        return path_from_text(self.expected) if self.expected is not None else None

    @cached_property
    def _tolerances(self) -> tuple[Fraction, Fraction]:
        return Fraction(repr(float(self.tolerance))), Fraction(repr(float(self.tolerance_abs)))

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Compare the answer with the request's expectation, or with production's answer."""
        if self._path is not None:
            value = expected_in_request(answer, self._path)
            if value is MISSING:
                return not_applicable(f"the request has no {self._path.text}")
            expected = number_from_json(value)
            if expected is None:
                words = shown(value) if isinstance(value, str) else f"a {type(value).__name__}"
                return Grade(BROKEN, None, f"the request's {self._path.text} is {words}, which is no number")
            return self._compared(answer, expected)
        expected = self._number(answer if other is None else other)
        if expected is None:
            return not_applicable("production's answer states no number")
        return passed("production's answer is the reference") if other is None else self._compared(answer, expected)

    def _compared(self, answer: Graded, expected: Fraction) -> Grade:
        found = self._number(answer)
        if found is None:
            content = self._content(answer)
            return failed(f"the answer has no <{self.tag}>" if content is None else f"{shown(content)} is no number")
        relative, absolute = self._tolerances
        if abs(found - expected) <= max(absolute, relative * abs(expected)):
            return passed()
        return failed(f"the answer is {number_text(found)}, expected is {number_text(expected)}")

    def _number(self, answer: Graded) -> Fraction | None:
        content = self._content(answer)
        return None if content is None else number_from_text(content)

    def _content(self, answer: Graded) -> str | None:
        text = answer.text()
        return text.strip() if self.tag is None else content_of(text, self.tag)
