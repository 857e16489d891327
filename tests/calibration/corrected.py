"""One rule over many runs at once, tile by tile, as the gate folds it: cells, design effect, totals, change detector.

The parts are the gate's own (`design_effects`, `log_e_many`, `detector.step`); only the runs take the rules' place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shadow.gate.stats import detector
from shadow.gate.stats.cluster import CELLS_MIN, design_effects
from shadow.gate.stats.engine import PAIR, Floats, Side, cached_log_factors, log_e_many, log_prior
from shadow.records.tallies import CELLS


@dataclass(frozen=True)
class Tile:
    """Counts of one tile in every run.

    Args:
        letters: Losses, ties, wins (or good, 0, bad). Shape (runs, 3).
        cells: Pairs and sum of D of each hash cell. Shape (runs, 128, 2).
    """

    letters: NDArray[np.int64]
    cells: NDArray[np.int64]


@dataclass(frozen=True)
class Look:
    """What is known after a tile. Each of shape (runs,)."""

    log_e: Floats
    log_sr: Floats
    effect: Floats


def looks(
    tiles: Iterable[Tile],
    mean: float,
    side: Side,
    kappa0: float = 0.2,
    *,
    outcomes: tuple[float, ...] = PAIR,
    is_corrected: bool = True,
) -> Iterator[Look]:
    """Fold tiles and look after each (statistics.md a.5).

    Args:
        outcomes: PAIR; RATE where D is the violation.
        is_corrected: False: design effect 1 and no minimum of cells.
    """
    factors, priors = cached_log_factors(outcomes, mean, side)[None], log_prior(kappa0)[None]
    minus = 0 if outcomes != PAIR else -1
    totals: Floats | None = None
    cells: Floats | None = None
    for tile in tiles:
        if totals is None or cells is None:
            runs = len(tile.letters)
            totals, cells = np.zeros((runs, 3)), np.zeros((runs, CELLS, 2))
            log_r, effect, is_spread = detector.fresh(runs), np.ones(runs), np.full(runs, not is_corrected)
        increments = ((tile.letters / effect[:, None])[:, None, :] * factors).sum(axis=-1)
        log_r = detector.step(log_r, increments, is_spread)
        totals += tile.letters
        n = totals.sum(axis=-1)
        if is_corrected:
            cells += tile.cells
            means = (totals[:, 2] + minus * totals[:, 0]) / n
            squares = (totals[:, 2] + abs(minus) * totals[:, 0]) / n
            effect = design_effects(cells[..., 0], cells[..., 1], means, squares)
            is_spread = (cells[..., 0] > 0).sum(axis=-1) >= CELLS_MIN
        value = log_e_many(totals / effect[:, None], factors, priors)
        yield Look(np.where(is_spread, value, 0.0), detector.log_r_by_test(log_r, priors), effect)


def first_over(seen: Iterable[Look], needs: Sequence[tuple[float, float]]) -> NDArray[np.int64]:
    """Index of the look at which log e, the detector, and either of them is first over; -1 where none is.

    Args:
        needs: Thresholds of log e and of the detector, any number of them.

    Returns:
        Shape (needs, 3, runs).
    """
    found: NDArray[np.int64] | None = None
    for number, look in enumerate(seen):
        if found is None:
            found = np.full((len(needs), 3, len(look.log_e)), -1, dtype=np.int64)
        for row, (need_e, need_sr) in zip(found, needs, strict=True):
            over_e, over_sr = look.log_e >= need_e, look.log_sr >= need_sr
            for first, over in zip(row, (over_e, over_sr, over_e | over_sr), strict=True):
                first[(first < 0) & over] = number
    if found is None:
        raise ValueError("there are no tiles")
    return found
