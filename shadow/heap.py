"""The garbage collector of processes that make many objects and hardly a cycle."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 20, 20)


def settle() -> None:
    """Look for cycles rarely from here on, and never again in what is loaded: that costs nothing but time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
