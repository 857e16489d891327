"""Design effects from 128 hash cells of the sampling key (statistics.md, a.5). Pure.

Requests of one session are not independent. All of a session falls into one cell, so the spread of the
cells' sums shows how much less the counts know than as many independent requests would.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from shadow.gate.stats.engine import Floats
from shadow.records.tallies import CELLS

CELLS_MIN: Final = 40
"""Non-empty cells below which a spread of cells says nothing, so there is no evidence."""
RARE: Final = 0.1
"""Weight of the session size in the design effect; it keeps the first violating session from counting in full."""

_UNBIASED: Final = CELLS / (CELLS - 1)


def session_sizes(cell_counts: Floats) -> Floats:
    """K, the mean size of a session as seen from the cells' counts alone.

    Args:
        cell_counts: n_h. Shape (R, 128).

    Returns:
        Shape (R,), >= 1.
    """
    n = cell_counts.sum(axis=-1)
    spread = ((cell_counts - n[:, None] / CELLS) ** 2).sum(axis=-1)
    sizes: Floats = np.maximum(1.0, _UNBIASED * spread / np.maximum(n, 1.0))
    return sizes


def cluster_variances(cell_counts: Floats, cell_sums: Floats, means: Floats) -> Floats:
    """V, the variance of the sum of D, from the cells.

    Args:
        cell_counts: n_h. Shape (R, 128).
        cell_sums: S_h, the sums of D. Shape (R, 128).
        means: Mean of D. Shape (R,).
    """
    result: Floats = _UNBIASED * ((cell_sums - cell_counts * means[:, None]) ** 2).sum(axis=-1)
    return result


def design_effects(cell_counts: Floats, cell_sums: Floats, means: Floats, squares: Floats) -> Floats:
    """By how much counts must be divided to be worth that many independent requests.

    Not meant for cost, whose variance takes V itself.

    Args:
        cell_counts: n_h. Shape (R, 128).
        cell_sums: S_h, the sums of D. Shape (R, 128).
        means: Mean of D. Shape (R,).
        squares: Mean of D squared, psi. Shape (R,).

    Returns:
        Shape (R,), >= 1; the session size K while every D is the same.

    Example:
        Eight sessions of one request each, one of them a loss:

        >>> counts, sums = np.zeros((1, 128)), np.zeros((1, 128))
        >>> counts[0, :8], sums[0, 0] = 1, -1
        >>> design_effects(counts, sums, np.array([-1 / 8]), np.array([1 / 8])).round(4)
        array([1.0071])
    """
    n = cell_counts.sum(axis=-1)
    sizes = session_sizes(cell_counts)
    spread = cluster_variances(cell_counts, cell_sums, means)
    plain = n * np.maximum(squares - means**2, 0.0)
    effects: Floats = np.maximum(1.0, (spread + RARE * sizes**2) / (plain + RARE * sizes))
    return effects
