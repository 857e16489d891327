"""Remember which pairs were read, in about one bit each, since a comparator that starts again repeats some. Pure."""

from __future__ import annotations

from typing import Final

from shadow.records.pairs import GradedPair

BLOCK_BYTES: Final = 512


class Seen:
    """Pairs by comparison and position of their request."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, int, int], bytearray] = {}

    def add(self, pair: GradedPair) -> bool:
        """Remember a pair; False where it is known."""
        block, place = divmod(pair.request_offset, BLOCK_BYTES * 8)
        bits = self._blocks.setdefault((pair.comparison, pair.request_partition, block), bytearray(BLOCK_BYTES))
        byte, bit = place // 8, 1 << place % 8
        is_new = not bits[byte] & bit
        bits[byte] |= bit
        return is_new
