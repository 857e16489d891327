"""What a model replied to one call, failure included, before it becomes an Answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """One call of a model.

    Args:
        outcome: One of `shadow.records.answers.OUTCOMES`.
        status: HTTP status; 0 where there was none.
        headers: Allow-listed headers only, names in lower case.
        body: What came, up to the cap; empty where the outcome says that it was too large.
        started_us: When the call began, by the worker's clock.
        first_byte_us: From the call's start to the first byte of the reply; 0 where none came.
        duration_us: From the call's start to its end.
        cost_micro: Cost of the call in micro-units.
        error: One sentence where the outcome is not `answered`.
    """

    outcome: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    started_us: int = 0
    first_byte_us: int = 0
    duration_us: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micro: int = 0
    error: str | None = None
