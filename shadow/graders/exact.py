"""`exact`: the answer's text is the expected one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import orjson

from shadow.graders.expected import MISSING, expected_in_request, path_from_text
from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, not_applicable, passed, shown
from shadow.graders.tag import content_of
from shadow.jsonpath import JsonPath
from shadow.records.grades import BROKEN, Grade


@dataclass(frozen=True)
class Exact(Plain):
    """Passes where the text equals the expected one, blanks at both ends aside.

    Production's own answer is the expected one where no `expected` is configured; then production passes by
    definition. Headers and status are not compared.

    Args:
        expected: `json:` and the path of the expected value in the request; None: production's answer.
        tag: Compare the content of this tag only; None: the whole text.
        ignore_case: Whether letters of both cases are equal.
    """

    kind: ClassVar[str] = "exact"

    expected: str | None = None
    tag: str | None = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        _ = self._path

    @cached_property
    def _path(self) -> JsonPath | None:
        return path_from_text(self.expected) if self.expected is not None else None

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Compare the answer with the request's expectation, or with production's answer."""
        if self._path is not None:
            value = expected_in_request(answer, self._path)
            if value is MISSING:
                return not_applicable(f"the request has no {self._path.text}")
            wanted = _scalar_text(value)
            if wanted is None:
                return Grade(BROKEN, None, f"the request's {self._path.text} is neither a text nor a number")
            return self._compared(answer, wanted)
        reference = self._value(answer if other is None else other)
        if reference is None:
            return not_applicable(f"production's answer has no <{self.tag}>")
        return passed("production's answer is the reference") if other is None else self._compared(answer, reference)

    def _compared(self, answer: Graded, wanted: str) -> Grade:
        found = self._value(answer)
        if found is None:
            return failed(f"the answer has no <{self.tag}>")
        if self._folded(found) == self._folded(wanted):
            return passed()
        return failed(f"the answer is {shown(found.strip())}, expected is {shown(wanted.strip())}")

    def _value(self, answer: Graded) -> str | None:
        text = answer.text()
        return text if self.tag is None else content_of(text, self.tag)

    def _folded(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


def _scalar_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode() if isinstance(value, bool | int | float) else None
