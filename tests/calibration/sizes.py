"""How many runs a row is simulated with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest


def sizes(few: int, many: int) -> list[object]:
    """A small number of runs for `make test`, and statistics.md's for `make calibrate`."""
    return [few, pytest.param(many, marks=[pytest.mark.calibration, pytest.mark.timeout(3600)])]


def with_runs(rows: Sequence[tuple[Any, ...]], names: Collection[str], few: int, many: int) -> list[Any]:
    """Rows, named by their first field, each with its number of runs behind it; only the named ones with a small one.

    Returns:
        Parameters for `pytest.mark.parametrize`.
    """
    long = [pytest.mark.calibration, pytest.mark.timeout(3600)]
    short = [pytest.param(*row, few, id=f"{row[0]} few") for row in rows if row[0] in names]
    return short + [pytest.param(*row, many, id=row[0], marks=long) for row in rows]
