"""What a deployment needs at 1k, 100k and 10M mirrored requests a second, from measured figures.

    python -m benchmarks.scale        prints the table of docs/scale.md

Every figure below was measured on this project (docs/benchmarks.md says how) or is a price or a size that a reader
may replace by their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REQUEST_BYTES = 1_673
"""A `MirroredRequest` of about 1 KB with production's answer of 0.6 KB, as benchmarks/comparator.py makes it."""
ANSWER_BYTES = 2_318
"""The candidate's `Answer` to it, which carries it along."""
PAIR_BYTES = 2_707
"""The `GradedPair` of both, with the grades of six graders."""
REPLICATION = 3
DAYS_KEPT = 8
"""Retention: a run of seven days, and a day to look at it."""
COMPARATOR_PAIRS_S = 9_600
"""Pairs a second of one core beside a real Kafka, graded pairs written."""
USE = 0.5
"""Part of a core's speed that is planned for: what is left catches up after an outage."""
PARTITION_PAIRS_S = 1_000
"""Pairs a second of one partition, so that its owner folds an hour's backlog in twenty minutes."""
PARTITION_BYTES_S = 5_000_000
"""Bytes a second that a broker should write to one partition."""
TILE_BYTES = 12_000
"""A partition's tile in Redis, compressed: 64 slices, 20 rules."""
STATE_BYTES = 40_000
"""A partition's state in Redis: its head, and the open tile and waiting requests."""
MERGED_BYTES = 24 * 60 * 16_000
"""The gate's merged tiles of a day, and its state."""
CHECKPOINT_CPU_S = 48e-6
GATE_PARTITION_S = 3.5e-3
"""The gate's time for one partition's share of a tile."""
CORE_MONTH = 30.0
GB_MONTH = 0.08
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """Needs at one rate; bytes are per second, or stored."""

    rate: int
    partitions: int
    kafka_bytes_s: float
    kafka_stored: float
    comparators: int
    redis_bytes: float
    redis_cores: float
    gate_s: float
    cost_month: float


def plan_of(rate: int) -> Plan:
    """The needs at so many mirrored requests a second."""
    written = rate * (REQUEST_BYTES + ANSWER_BYTES + PAIR_BYTES)
    partitions = max(16, math.ceil(rate / PARTITION_PAIRS_S), math.ceil(rate * ANSWER_BYTES / PARTITION_BYTES_S))
    partitions = 2 ** math.ceil(math.log2(partitions))
    comparators = max(2, math.ceil(rate / (COMPARATOR_PAIRS_S * USE)))
    stored = written * REPLICATION * DAYS_KEPT * 86_400
    redis_bytes = partitions * (60 * TILE_BYTES + STATE_BYTES) + MERGED_BYTES
    # A broker's core writes about 100 MB/s, replicas included.
    cores = comparators + written * REPLICATION / 100e6 + partitions * CHECKPOINT_CPU_S + 1
    return Plan(
        rate=rate,
        partitions=partitions,
        kafka_bytes_s=written * REPLICATION,
        kafka_stored=stored,
        comparators=comparators,
        redis_bytes=redis_bytes,
        redis_cores=partitions * CHECKPOINT_CPU_S,
        gate_s=partitions * GATE_PARTITION_S,
        cost_month=cores * CORE_MONTH + stored / 1e9 * GB_MONTH,
    )


def table() -> str:
    """The table of docs/scale.md."""
    plans = [plan_of(rate) for rate in (1_000, 100_000, 10_000_000)]
    rows = [
        ("partitions of each topic", *(f"{p.partitions:,}" for p in plans)),
        ("Kafka, written with its replicas", *(f"{p.kafka_bytes_s / 1e6:,.0f} MB/s" for p in plans)),
        ("Kafka, stored for eight days", *(f"{p.kafka_stored / 1e12:,.0f} TB" for p in plans)),
        ("comparators (cores, half used)", *(f"{p.comparators:,}" for p in plans)),
        ("Redis, memory", *(f"{p.redis_bytes / GIB:,.2f} GiB" for p in plans)),
        ("Redis, checkpoints", *(f"{p.redis_cores:.1%} of a core" for p in plans)),
        ("gate, a tile of a minute", *(f"{p.gate_s:,.2f} s" for p in plans)),
        ("cost a month, models not included", *(f"{p.cost_month:,.0f}" for p in plans)),
    ]
    lines = ["| mirrored requests a second | " + " | ".join(f"{p.rate:,}" for p in plans) + " |"]
    lines += ["| --- " * 4 + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


if __name__ == "__main__":
    print(table())
