"""`human`: which requests people are asked about, and how long they have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shadow.settings.section import Section
from shadow.settings.units import Share, duration_us


class Human(Section):
    """People answer a sample of the requests, for the rules that say `against: human`.

    Args:
        sample: Share of the sampling keys whose requests people are asked about.
        deadline_us: How long after a tile's end their answers may still come; later ones are missing.
    """

    sample: Share = 0.02
    deadline_us: Annotated[int, duration_us("1s", "30d")] = Field(default=6 * 3600 * 1_000_000, alias="deadline")
