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
    def _words(self) -> tuple[list[str], Grade, list[tuple[str, str]]]:
        none = failed(f"the answer contains none of {', '.join(map(shown, self.any))}")
        return [self._folded(word) for word in self.any], none, [(word, self._folded(word)) for word in self.all]

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Look for the texts and patterns."""
        text = answer.folded() if self.ignore_case else answer.text()
        some, none, every = self._words
        for word in some:
            if word in text:
                break
        else:
            if some:
                return none
        for word, folded_word in every:
            if folded_word not in text:
                return failed(f"the answer does not contain {shown(word)}")
        for pattern, compiled_pattern in self._patterns:
            if not found(compiled_pattern, answer.utf8()):
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
