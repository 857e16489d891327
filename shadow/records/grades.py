"""A grade: what a grader says of one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_APPLICABLE: Final = "not_applicable"
BROKEN: Final = "broken"


@dataclass(frozen=True, slots=True)
class Grade:
    """Outcome of one grader on one answer.

    Args:
        outcome: `passed`, `failed`, `not_applicable` or `broken`.
        score: A finite number in [0, 1] for numeric graders, else None.
        reason: One sentence with what was found.
    """

    outcome: str
    score: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that an adapter must put to a service before the grade is known.

    Args:
        url: Where to POST.
        payload: JSON-ready body of the call.
        budget_us: How long the call may take.
    """

    url: str
    payload: Mapping[str, Any]
    budget_us: int


@dataclass(frozen=True, slots=True)
class GraderSpec:
    """One grader as configured.

    Args:
        name: Name in the configuration, `[a-z0-9_-]{1,64}`.
        kind: Which grader (`numeric`, `contains`, …).
        slices: Slices to which it applies; empty means everywhere.
        params: Its own settings, already validated.
    """

    name: str
    kind: str
    slices: tuple[str, ...]
    params: Mapping[str, Any]
