"""Which roles' answers to one request are compared, and what a tile of a comparison is called in the store.

Every comparison has tiles, a deadline and a class for each request of its own, so that none waits for another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PRODUCTION: Final = "production"
CANDIDATE: Final = "candidate"
BASELINE: Final = "baseline"
HUMAN: Final = "human"

CANDIDATE_PRODUCTION: Final = "candidate-production"
BASELINE_PRODUCTION: Final = "baseline-production"
CANDIDATE_HUMAN: Final = "candidate-human"

ROLES_BY_COMPARISON: Final = {
    CANDIDATE_PRODUCTION: (PRODUCTION, CANDIDATE),
    # What the baseline shows is how much of the candidate's disagreement is production's own noise.
    BASELINE_PRODUCTION: (PRODUCTION, CANDIDATE, BASELINE),
    CANDIDATE_HUMAN: (HUMAN, CANDIDATE),
}
"""Roles whose answers make a pair of the comparison; the first is the reference."""

COMPARISON_BY_REFERENCE: Final = {PRODUCTION: CANDIDATE_PRODUCTION, HUMAN: CANDIDATE_HUMAN}
"""Comparison of a rule by the role against which it holds the candidate."""


def lag_tiles(comparison: str, deadline_us: int, tile_us: int) -> int:
    """How many tiles behind the main comparison's the gate folds a comparison's, so that it never waits long."""
    return 0 if comparison == CANDIDATE_PRODUCTION else -(-deadline_us // tile_us) + 1


def tile_name(number: int, comparison: str = CANDIDATE_PRODUCTION) -> str:
    """Name of a closed tile in its slot: the number, behind the comparison where it is not the main one."""
    return str(number) if comparison == CANDIDATE_PRODUCTION else f"{comparison}/{number}"


def tile_of_name(name: str) -> tuple[int, str]:
    """Number and comparison of a closed tile by its name."""
    comparison, _, number = name.rpartition("/")
    return int(number), comparison or CANDIDATE_PRODUCTION


def tile_numbers(names: Iterable[str], comparison: str = CANDIDATE_PRODUCTION) -> list[int]:
    """Numbers of a comparison's closed tiles among the names of a slot, ascending."""
    return sorted(number for number, known in map(tile_of_name, names) if known == comparison)
