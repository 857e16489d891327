"""`contains` and `regex`: certain words or patterns are in the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed, shown
from shadow.patterns import compiled, found
from shadow.records.grades import Grade, GraderSpec


@dataclass(frozen=True)
class Contains(Plain):
    """Passes where every given condition holds.

    Args:
        any: At least one of these texts is in the answer.
        all: Each of these texts is in the answer.
        regex: Each of these RE2 patterns is found in the answer.
        ignore_case: Whether letters of both cases are equal in `any` and `all`; a pattern says so itself, `(?i)`.
    """

    kind: ClassVar[str] = "contains"

    any: Sequence[str] = ()
    all: Sequence[str] = ()
    regex: Sequence[str] = ()
    ignore_case: bool = True

    def __post_init__(self) -> None:
        if not (self.any or self.all or self.regex):
            raise ValueError("has no condition, must name any, all or regex")
        _ = self._patterns

    @cached_property
    def _patterns(self) -> list[tuple[str, Any]]:
        return [(pattern, compiled(pattern)) for pattern in self.regex]

    @cached_property
    def _words(self) -> tuple[list[str], list[tuple[str, str]]]:
        return [self._folded(word) for word in self.any], [(word, self._folded(word)) for word in self.all]

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Look for the texts and patterns."""
        text = answer.text()
        folded = self._folded(text)
        some, every = self._words
        if some and not any(word in folded for word in some):
            return failed(f"the answer contains none of {', '.join(map(shown, self.any))}")
        for word, folded_word in every:
            if folded_word not in folded:
                return failed(f"the answer does not contain {shown(word)}")
        subject = text.encode("utf-8", "replace") if self._patterns else b""
        for pattern, compiled_pattern in self._patterns:
            if not found(compiled_pattern, subject):
                return failed(f"nothing in the answer matches {shown(pattern)}")
        return passed()

    def _folded(self, text: str) -> str:
        return text.casefold() if self.ignore_case else text


@dataclass(frozen=True)
class Regex(Contains):
    """Passes where the one RE2 `pattern` is found in the answer."""

    kind: ClassVar[str] = "regex"

    @classmethod
    def from_spec(cls, spec: GraderSpec) -> Self:
        """Make the grader of its `pattern`.

        Raises:
            ValueError: If the pattern is missing or refused, or anything else is given.
        """
        if set(spec.params) != {"pattern"}:
            raise ValueError(f"has {', '.join(spec.params) or 'nothing'}, must have a pattern and nothing else")
        return cls(name=spec.name, slices=spec.slices, regex=(spec.params["pattern"],))
