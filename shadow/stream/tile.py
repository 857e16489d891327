"""Which tile a request belongs to, and when a tile closes.

    log time      0         1         2         3     (tiles of one length)
    requests      a  b   c  | d     e |
    ticks                    t0        t1             a tick states `requests_end`: a b c belong to tile 0
    tile 0        closes when a, b, c are decided and t0 counted,
                  or when t0 counted and the watermark passed its end + the evidence deadline

Pure: the watermark is the running maximum of append times, and nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tiles:
    """Ticks counted and tiles closed so far in one partition, for one comparison.

    Args:
        tile_us: Length of a tile.
        deadline_us: Evidence deadline: how long after its end a tile waits for undecided requests.
        oldest: Number of the oldest open tile; all before it are closed.
        ends: `requests_end` of the tiles from `oldest` on whose ticks have counted.
    """

    tile_us: int
    deadline_us: int
    oldest: int
    ends: list[int] = field(default_factory=list)

    def tile_of(self, time_us: int, first: int) -> int:
        """Tile of a request by its append time; one before the run's first tile counts as the first."""
        return max(time_us // self.tile_us, first)

    def end_us(self, tile: int) -> int:
        """Log time at which a tile ends; the end belongs to the next one."""
        return (tile + 1) * self.tile_us

    @property
    def next_tick(self) -> int:
        """Tile whose tick is the next one to count."""
        return self.oldest + len(self.ends)

    def tick(self, tile: int, requests_end: int, time_us: int) -> bool:
        """Count a tick: the first of its tile, after the one before it, not appended before its tile's end."""
        if tile != self.next_tick or time_us < self.end_us(tile):
            return False
        previous = self.ends[-1] if self.ends else 0
        self.ends.append(max(requests_end, previous))
        return True

    def is_overdue(self, watermark_us: int) -> bool:
        """Whether the oldest open tile has waited for its evidence long enough, at this running maximum of times."""
        return bool(self.ends) and watermark_us > self.end_us(self.oldest) + self.deadline_us

    def close(self) -> int:
        """Close the oldest tile and return its number; the caller has decided everything in it."""
        self.ends.pop(0)
        self.oldest += 1
        return self.oldest - 1
