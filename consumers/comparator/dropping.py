"""Which closed tiles an owner no longer keeps in the store: the gate has folded them long ago.

A gate whose state was lost finds the number behind the dropped tiles and has everything rebuilt from the log
(design.md, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shadow.records.comparisons import lag_tiles, tile_name
from shadow.stream.state import FoldSpec

KEPT_US: Final = 3600 * 1_000_000
"""Log time for which tiles stay after the gate has folded them, so that a gate that fell back a little finds them."""


@dataclass(frozen=True, slots=True)
class Dropping:
    """Tiles to delete with the next checkpoint.

    Args:
        below: Main tiles below this number are gone afterwards.
        names: Their names, and those of the other comparisons' tiles that the gate folded with them.
    """

    below: int
    names: tuple[str, ...]


def tiles_to_drop(spec: FoldSpec, dropped: int, folded: int, oldest: int) -> Dropping:
    """What may go, where the gate has folded main tile `folded` and tiles below `dropped` are gone already.

    Args:
        oldest: The oldest main tile that is open: an owner that counts again closes tiles that the gate folded long
            ago, and has to drop these too.
    """
    below = max(dropped, min(folded - -(-KEPT_US // spec.tile_us), oldest))
    names = (
        tile_name(number - lag, name)
        for name, deadline_us in spec.deadlines_us.items()
        for lag in (lag_tiles(name, deadline_us, spec.tile_us),)
        for number in range(dropped, below)
        if number - lag >= spec.first_tile
    )
    return Dropping(below, tuple(names))
