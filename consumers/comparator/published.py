"""What the comparator's metrics show of a partition after a checkpoint."""

from __future__ import annotations

from consumers.comparator.plan import Owned
from shadow.metrics import DROP_REASONS, UNKNOWN_REASON, Metrics
from shadow.records.tallies import CLASSES


def publish(metrics: Metrics, run: str, partition: int, owned: Owned, now_us: int) -> None:
    """Count the tiles that were closed since the last checkpoint, and show how far the partition is."""
    for tile in owned.closed:
        for key, vector in tile.tally.vectors.items():
            if key.kind == "classes":
                for name, count in zip(CLASSES, vector, strict=True):
                    metrics.inc(
                        "shadow_pairs_total", count, run=run, comparison=tile.comparison, slice=key.slice, result=name
                    )
    state = owned.fold.state
    labels = {"run": run, "partition": str(partition)}
    lag_us = max(0, now_us - state.watermark_us)
    metrics.set("shadow_watermark_lag_seconds", lag_us / 1e6, **labels)
    metrics.set("shadow_waiting_pairs", len(state.waiting), **labels)
    metrics.set("shadow_open_tiles", len(state.main.tallies), **labels)
    for name in ("records", "duplicate", "late"):
        metrics.set(f"shadow_answers_{name}", state.counters[name], **labels)
    account = state.accounts.account()
    metrics.set("shadow_requests_seen", account.seen, **labels)
    metrics.set("shadow_requests_present", account.present, **labels)
    metrics.set("shadow_requests_lost", account.lost, **labels)
    metrics.set("shadow_requests_open", account.open, **labels)
    for reason in DROP_REASONS:
        metrics.set("shadow_requests_dropped", account.dropped.get(reason, 0), reason=reason, **labels)
    # What a proxy of another version calls by a name that is not known here must not be missing from the sum.
    unknown = sum(count for reason, count in account.dropped.items() if reason not in DROP_REASONS)
    metrics.set("shadow_requests_dropped", unknown, reason=UNKNOWN_REASON, **labels)
    for name in state.compared:
        unaccounted = state.unaccounted(name, owned.fold.spec.requests_from)
        metrics.set("shadow_requests_unaccounted", unaccounted, comparison=name, **labels)
