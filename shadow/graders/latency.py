"""`latency`: the answer came within a bound. The rule of the same name compares quantiles instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, not_applicable, passed
from shadow.records.grades import Grade


@dataclass(frozen=True)
class LatencyBound(Plain):
    """Passes where the answer took at most `max_us`.

    Args:
        max_us: Bound, microseconds.
        quantity: `total`, or `first_byte`.
    """

    kind: ClassVar[str] = "latency"

    max_us: int
    quantity: str = "total"

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Compare what the worker or the proxy measured."""
        took_us = answer.first_byte_us if self.quantity == "first_byte" else answer.duration_us
        if took_us <= 0:
            return not_applicable("how long it took was not measured")
        words = f"took {took_us / 1000:,.1f} ms, at most {self.max_us / 1000:,.1f} ms are allowed"
        return passed(words) if took_us <= self.max_us else failed(words)
