"""`status`: the answer has one of the expected HTTP statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed
from shadow.records.grades import Grade


@dataclass(frozen=True)
class Status(Plain):
    """Passes where the status is expected; the body is not looked at.

    Args:
        codes: Single statuses (`404`) or classes (`"2xx"`).
    """

    kind: ClassVar[str] = "status"

    codes: Sequence[int | str] = ("2xx",)

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Grade the status."""
        if answer.status in self.codes or f"{answer.status // 100}xx" in self.codes:
            return passed(f"the status is {answer.status}")
        return failed(f"the status is {answer.status}, expected is {' or '.join(map(str, self.codes))}")
