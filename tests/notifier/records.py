"""Records of the decisions topic, as tests need them."""

from __future__ import annotations

import uuid
from typing import Any

from shadow.records.decisions import Decision, Started

RUN = "candidate-00000000-1"
US = 1_764_512_345_678_901
"""2025-11-30T14:19:05.678901Z."""


def started(run: str = RUN, **changes: Any) -> Started:
    """A beginning."""
    fields: dict[str, Any] = {
        "attempt": 1,
        "candidate": "v2",
        "production": "v1",
        "digest": "0" * 64,
        "stage": "shadow",
        "tile_us": 60_000_000,
        "first_tile": 1,
        "answers_from": (0, 0),
        "requests_from": (0, 0),
        "started_us": US,
        "expires_us": US + 7 * 24 * 3600 * 1_000_000,
    }
    return Started(run=run, **{**fields, **changes})


def decision(name: str = "rollback", step: int = 1, run: str = RUN, **changes: Any) -> Decision:
    """A decision."""
    fields: dict[str, Any] = {
        "decision_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run}/{step}")),
        "from_stage": "shadow",
        "to_stage": {"promote": "done", "rollback": "rolled_back"}.get(name, "expired"),
        "tile": 7,
        "tiles_digest": "ab" * 32,
        "positions": (10, 12),
        "culprits": ("no_regression all correct",),
        "reason": "the candidate's failures are proven: log e 3.4 of 3.2",
        "evidence": '{"evidence":{},"judgement":{}}',
        "decided_us": US,
    }
    return Decision(run=run, step=step, decision=name, **{**fields, **changes})
