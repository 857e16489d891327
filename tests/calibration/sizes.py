"""How many runs a row is simulated with: a few in `make test`, in `make calibrate` as many as in statistics.md.

CALIBRATION_SHARE=0.3 takes that share of the long runs, where time is short; the tolerances follow.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import pytest

BATCH = 20
"""Runs are a multiple of this."""


def share_of(runs: int) -> int:
    """The long run's number of runs."""
    share = float(os.environ.get("CALIBRATION_SHARE", "1"))
    return max(BATCH, round(runs * share / BATCH) * BATCH)


def sizes(few: int, many: int) -> list[object]:
    """A small number of runs for `make test`, and statistics.md's for `make calibrate`."""
    return [few, pytest.param(share_of(many), marks=pytest.mark.calibration)]


def with_runs(rows: Sequence[tuple[Any, ...]], names: Collection[str], few: int, many: int) -> list[Any]:
    """Rows, named by their first field, each with its number of runs behind it; only the named ones with a small one.

    Returns:
        Parameters for `pytest.mark.parametrize`.
    """
    short = [pytest.param(*row, few, id=f"{row[0]} few") for row in rows if row[0] in names]
    return short + [pytest.param(*row, share_of(many), id=row[0], marks=pytest.mark.calibration) for row in rows]
