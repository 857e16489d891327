"""Pairs that come in sessions: equal outcomes within, one hash cell each, in any order of arrival. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shadow.gate.stats.engine import Floats
from shadow.records.tallies import CELLS
from tests.calibration.corrected import Tile

Outcomes = NDArray[np.int8]


def session_numbers(runs: int, pairs: int, size: int, concurrent: int) -> NDArray[np.int64]:
    """Session of each pair in order of arrival. Shape (pairs,).

    Args:
        concurrent: How many sessions talk at the same time, in turn; 1: a session's requests follow one another.
    """
    block = concurrent * size
    place = np.arange(pairs)
    return place // block * concurrent + place % block % concurrent


def outcomes_of(
    chance: Floats, session: NDArray[np.int64], same: float, rng: np.random.Generator, *, runs: int
) -> Outcomes:
    """Letters 0, 1, 2 (loss, tie, win) of each pair. Shape (runs, pairs).

    Args:
        same: Chance that all requests of a session have one outcome; else each has its own.
    """
    edges = np.cumsum(chance)[:2]
    own = _letters(rng, edges, (runs, len(session)))
    if same == 0:
        return own
    sessions = int(session.max()) + 1
    shared = _letters(rng, edges, (runs, sessions))[:, session]
    return np.where((rng.random((runs, sessions)) < same)[:, session], shared, own)


def _letters(rng: np.random.Generator, edges: Floats, shape: tuple[int, int]) -> Outcomes:
    draw = rng.random(shape)
    return (draw >= edges[0]).astype(np.int8) + (draw >= edges[1])


def tiles_of(
    outcomes: Outcomes, session: NDArray[np.int64], rng: np.random.Generator, *, every: int, is_rate: bool = False
) -> Iterator[Tile]:
    """The tiles of all runs, `every` pairs each.

    Args:
        is_rate: D is 1 at letter 2 and 0 else, instead of -1, 0, 1.
    """
    runs, pairs = outcomes.shape
    cell_of = rng.integers(CELLS, size=(runs, int(session.max()) + 1)).astype(np.int16)
    row = np.arange(runs)[:, None] * CELLS
    for start in range(0, pairs - every + 1, every):
        span = slice(start, start + every)
        place = (row + cell_of[:, session[span]]).ravel()
        letters = outcomes[:, span]
        value = (letters == 2).astype(np.float64) - (0 if is_rate else letters == 0)
        n = np.bincount(place, minlength=runs * CELLS).reshape(runs, CELLS)
        s = np.bincount(place, weights=value.ravel(), minlength=runs * CELLS).reshape(runs, CELLS)
        counts = np.stack([(letters == each).sum(axis=1) for each in range(3)], axis=-1)
        yield Tile(counts, np.stack([n, s.astype(np.int64)], axis=-1))
