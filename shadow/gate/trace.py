"""How the verdict came about: a short history of a stage, thinned as it grows. Pure.

    tile     0 1 2 3 4 5 6 7 8          kept: every tile, then every second one, then every fourth …
    stride 2 ▪   ▪   ▪   ▪   ▪          and always the newest

What is kept follows from the tiles alone, so two gates and one that was ended tell the same story. Nothing is decided
with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shadow.gate.judgement import Judgement, Verdict

POINTS_MAX: Final = 96
LETTERS: Final = {Verdict.PASS: "P", Verdict.UNDECIDED: "U", Verdict.BROKEN: "B", Verdict.FAIL: "F"}


@dataclass(frozen=True, slots=True)
class Point:
    """What was said after a tile.

    Args:
        verdicts: A letter a rule: P, U, B or F.
        log_e: The rollback process, 0.01 nats.
    """

    tile: int
    decision: str
    verdicts: str
    log_e: float


@dataclass(slots=True)
class Trace:
    """The history of one stage. `add` changes it in place.

    Args:
        stage: Its name; another one begins another history.
        first_tile: Its first tile, from which the stride counts.
        stride: Tiles between two points that are kept.
        since: The tile from which each rule has had its present verdict.
    """

    stage: str = ""
    first_tile: int = 0
    stride: int = 1
    points: list[Point] = field(default_factory=list)
    since: list[int] = field(default_factory=list)

    def add(self, tile: int, judgement: Judgement) -> None:
        """Take the judgement after a tile; that of the newest tile again replaces it."""
        verdicts = "".join(LETTERS[line.verdict] for line in judgement.rules)
        before = self.points[-1] if self.points else None
        is_other = self.stage != judgement.stage.name or before is None or len(before.verdicts) != len(verdicts)
        if is_other or (before is not None and tile < before.tile):
            self.stage, self.first_tile, self.stride = judgement.stage.name, tile, 1
            self.points, self.since, before = [], [tile] * len(verdicts), None
        if before is not None:
            changed = [old != new for old, new in zip(before.verdicts, verdicts, strict=True)]
            self.since = [tile if moved else kept for moved, kept in zip(changed, self.since, strict=True)]
            if before.tile == tile or not self._is_kept(before):
                self.points.pop()
        self.points.append(Point(tile, judgement.decision, verdicts, round(judgement.rollback.log_e, 2)))
        while len(self.points) > POINTS_MAX:
            self.stride *= 2
            self.points = [point for point in self.points if self._is_kept(point) or point.tile == tile]

    def _is_kept(self, point: Point) -> bool:
        return (point.tile - self.first_tile) % self.stride == 0

    def to_bytes(self) -> bytes:
        """One line of JSON."""
        points = [[each.tile, each.decision, each.verdicts, each.log_e] for each in self.points]
        tree = [self.stage, self.first_tile, self.stride, points, self.since]
        return json.dumps(tree, separators=(",", ":")).encode()


def trace_from_bytes(value: bytes | None) -> Trace:
    """Read what `to_bytes` wrote; an empty history where there is none, or one of another layout."""
    try:
        stage, first_tile, stride, points, since = json.loads(value or b"")
        return Trace(str(stage), int(first_tile), int(stride), [Point(*each) for each in points], list(map(int, since)))
    except (ValueError, TypeError):
        return Trace()


def history_tree(trace: Trace, rules: Sequence[str], tile_us: int) -> dict[str, Any]:
    """A history as JSON-ready dictionaries, with the log's times at which its tiles ended, in microseconds.

    Args:
        rules: Ids of the rules, in the order of the letters.
    """

    def end_us(tile: int) -> int:
        return (tile + 1) * tile_us

    return {
        "rules": list(rules),
        "since_us": [end_us(tile) for tile in trace.since],
        "points": [
            {"at_us": end_us(each.tile), "decision": each.decision, "verdicts": each.verdicts, "log_e": each.log_e}
            for each in trace.points
        ],
    }
