"""The table of a comparison, as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.peers.runs import Measured

HEAD: Final = ("engine", "pairs", "pairs/s", "Shadow ÷ it", "CPU µs a pair", "it ÷ Shadow", "peak MiB", "counts")


@dataclass(frozen=True, slots=True)
class Row:
    """One engine.

    Args:
        measured: None where it could not be run.
        remark: Whether its counts are right, or why it has no figures.
        is_void: Whether its figures count for nothing.
    """

    engine: str
    measured: Measured | None
    remark: str
    is_void: bool


def table(rows: Sequence[Row], base: Measured | None) -> str:
    """All rows; ratios against one of them, above 1 where it is better."""
    lines = [_line(HEAD), _line(["---", *["---:"] * 6, "---"])]
    for row in rows:
        measured = row.measured
        if measured is None or row.is_void:
            lines.append(_line([row.engine, *["–"] * 6, row.remark]))
            continue
        cells = [row.engine, f"{measured.pairs:,}", f"{measured.pairs_per_s:,.0f}"]
        cells.append("–" if base is None else f"{base.pairs_per_s / measured.pairs_per_s:.2f}")
        cells.append(f"{measured.cpu_us:.0f}")
        cells.append("–" if base is None else f"{measured.cpu_us / base.cpu_us:.2f}")
        cells += [f"{measured.rss_bytes / 2**20:,.0f}", row.remark]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
