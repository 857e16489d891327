"""One played run, shared by the tests that do not change it."""

from __future__ import annotations

import pytest

from tests.replay.world import World


@pytest.fixture(scope="module")
def world() -> World:
    """A run that was counted, judged and promoted. Read only."""
    played = World().play()
    assert "promote" == played.run.decisions[-1].decision
    return played
