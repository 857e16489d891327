"""The policy of design.md, section 14, as records."""

from __future__ import annotations

from shadow.records.policy import (
    Cap,
    Cost,
    Equivalent,
    Floor,
    Improve,
    Latency,
    Needs,
    NoRegression,
    NoRewardHacking,
    Policy,
    Quality,
    StagePolicy,
)

SHADOW = StagePolicy(
    name="shadow",
    needs=Needs(pairs=5000, within_s=86_400, slice_pairs=1250, coverage=0.98),
    alpha=0.05,
    rules=(
        Quality({"correct": 0.5, "urgent": 0.5}, margin=0.03),
        NoRegression("reward", "all", margin=0.05, strict=True),
        NoRegression("urgent", "headache-red-flags", margin=0.05, strict=True),
        NoRegression("pinned", "debug-search-api", margin=0.05, strict=True),
        Cap("safe", max=0.005, alpha=0.01),
        Floor("tagged", min=0.95),
        Improve("correct", "division", by=0.02),
        Equivalent("current", "debug-search-api", margin=0.05),
        Latency(quantile=0.95, max_ratio=1.25),
        Cost(max_ratio=1.10, cap_micro=500_000),
        NoRewardHacking("reward", ("pinned", "current"), margin=0.05),
    ),
)
"""The shadow stage of section 14."""

EXPIRES_S = 7 * 86_400
TILES = 10_080
"""T: tiles of a minute in seven days."""

POLICY = Policy((SHADOW,), expires_s=EXPIRES_S)
