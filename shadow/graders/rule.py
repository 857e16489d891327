"""What all graders have in common. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from shadow.records.grades import FAILED, NOT_APPLICABLE, PASSED, Grade, GraderSpec

SHOWN_CHARACTERS_MAX = 60
_PASSED = Grade(PASSED)


@dataclass(frozen=True)
class Plain:
    """A grader that needs nothing but the answer.

    Args:
        name: Name in the configuration.
        slices: Slices to which it applies; empty means everywhere.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    is_recorded: ClassVar[bool] = False

    name: str
    slices: tuple[str, ...]

    @property
    def budget_us(self) -> int:
        """How long one grade may take: nothing to speak of, since nobody is asked."""
        return 0

    @classmethod
    def from_spec(cls, spec: GraderSpec) -> Self:
        """Make the grader; parameters that the specification does not name have their defaults.

        Raises:
            ValueError: If a parameter cannot be used; the text says which and why.
            TypeError: If a parameter is unknown or missing.
        """
        params: dict[str, Any] = dict(spec.params)
        return cls(name=spec.name, slices=spec.slices, **params)

    def read(self, reply: bytes) -> Grade:
        """Never called: this grader asks nothing."""
        raise ValueError(f"the grader {self.name} asks nothing, so there is no reply to read")


def passed(reason: str = "", score: float | None = None) -> Grade:
    """The answer is as it should be."""
    return Grade(PASSED, score, reason) if reason or score is not None else _PASSED


def failed(reason: str, score: float | None = None) -> Grade:
    """The answer is not as it should be."""
    return Grade(FAILED, score, reason)


def not_applicable(reason: str) -> Grade:
    """Nothing can be said of this answer, and nobody is to blame."""
    return Grade(NOT_APPLICABLE, None, reason)


def shown(text: object) -> str:
    """A value as a reason quotes it: short and on one line."""
    quoted = repr(str(text)[: SHOWN_CHARACTERS_MAX + 1])
    return quoted if len(quoted) <= SHOWN_CHARACTERS_MAX + 2 else f"{quoted[:SHOWN_CHARACTERS_MAX]}…'"
