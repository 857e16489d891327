"""`cost`: the answer cost no more than it may. The rule of the same name compares means instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, not_applicable, passed
from shadow.records.grades import Grade


@dataclass(frozen=True)
class CostBound(Plain):
    """Passes where the answer cost at most `max_micro`; an answer that states no tokens has no known cost.

    Args:
        max_micro: Bound, micro-units of money.
    """

    kind: ClassVar[str] = "cost"

    max_micro: int

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Compare the cost of the call."""
        if answer.cost_micro == 0 and answer.prompt_tokens == 0 and answer.completion_tokens == 0:
            return not_applicable("the answer states no tokens, so its cost is not known")
        words = f"cost {answer.cost_micro / 1e6:g}, at most {self.max_micro / 1e6:g} is allowed"
        return passed(words) if answer.cost_micro <= self.max_micro else failed(words)
