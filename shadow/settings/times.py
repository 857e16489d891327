"""`tile`, `evidence_deadline` and `expires`: the run's times, at the top of the file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shadow.settings.section import Section
from shadow.settings.units import duration_us, whole_s


class Times(Section):
    """The run's times.

    Args:
        tile_us: Length of a tile.
        evidence_deadline_us: How long after a tile's end its pairs may still complete; later ones are missing.
        expires_s: Longest age of a run.
    """

    tile_us: Annotated[int, duration_us("100ms", "1h")] = Field(default=60_000_000, alias="tile")
    evidence_deadline_us: Annotated[int, duration_us("100ms", "30d")] = Field(
        default=15 * 60_000_000, alias="evidence_deadline"
    )
    expires_s: Annotated[int, whole_s("1s", "365d")] = Field(default=7 * 86_400, alias="expires")
