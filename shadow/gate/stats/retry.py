"""What a repeated attempt of the same candidate may spend on promoting (statistics.md, a.6). Pure."""

from __future__ import annotations

import math


def attempt_alpha(alpha: float, attempt: int) -> float:
    """Level of the promote tests at an attempt; all attempts together spend at most 1.4 alpha.

    The rollback budget does not shrink: the tripwire must not get weaker for a repeat offender.

    Args:
        alpha: Level of the first attempt.
        attempt: 1 for the first.

    Raises:
        ValueError: If the attempt is below 1.

    Source:
        Reference vector V34.
    """
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}; the first one is 1")
    return alpha if attempt == 1 else alpha * 6 / (math.pi * attempt) ** 2
