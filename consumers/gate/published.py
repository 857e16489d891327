"""What the gate's metrics show after a look at the evidence."""

from __future__ import annotations

from collections.abc import Mapping

from shadow.gate.judgement import Judgement
from shadow.gate.measures import Evidence
from shadow.gate.noise import Noise
from shadow.metrics import STATES, VERDICTS, Metrics


def publish(metrics: Metrics, run: str, stage: str, window_pairs: int, judgement: Judgement, now_us: int) -> None:
    """Show one judgement.

    Args:
        stage: The stage that the run is in, or `broken`.
        window_pairs: Pairs that count towards the stage's volume.
        now_us: When it was judged.
    """
    for name in STATES:
        metrics.set("shadow_gate_state", float(name == stage), run=run, state=name)
    metrics.set("shadow_gate_pairs", window_pairs, run=run)
    metrics.set("shadow_gate_pairs_required", judgement.stage.needs.pairs, run=run)
    metrics.set("shadow_gate_evaluation_timestamp_seconds", now_us / 1e6, run=run)
    metrics.set("shadow_gate_rollback_log_e", judgement.rollback.log_e, run=run)
    metrics.set("shadow_gate_rollback_log_e_needed", judgement.rollback.need, run=run)
    _publish_slices(metrics, run, judgement.evidence)
    for condition in judgement.conditions:
        labels = {"run": run, "condition": condition.name, "slice": condition.slice}
        metrics.set("shadow_gate_condition_met", float(condition.is_met), **labels)
    for line in judgement.rules:
        for verdict in VERDICTS:
            metrics.set(
                "shadow_gate_rule_verdict",
                float(verdict == line.verdict.name),
                run=run,
                rule=line.name,
                slice=line.slice,
                verdict=verdict,
            )


def publish_operating(
    metrics: Metrics, run: str, detectable: Mapping[tuple[str, str], float], noise: Noise | None, budget: float
) -> None:
    """Show what the gate can see, and how often it is wrong.

    Args:
        detectable: The smallest regression that each rule finds, by its name and slice.
        noise: Alarms among A/A pairs; None where there is no baseline.
        budget: Share of the blocks that may alarm.
    """
    for (rule, slice), regression in detectable.items():
        metrics.set("shadow_gate_detectable_regression_ratio", regression, run=run, rule=rule, slice=slice)
    if noise is not None:
        metrics.set("shadow_gate_baseline_blocks", noise.blocks, run=run)
        metrics.set("shadow_gate_baseline_alarms", noise.alarms, run=run)
        metrics.set("shadow_gate_false_alarm_budget_ratio", budget, run=run)
        if noise.blocks:
            metrics.set("shadow_gate_false_alarm_ratio", noise.alarms / noise.blocks, run=run)


def _publish_slices(metrics: Metrics, run: str, evidence: Evidence) -> None:
    """Coverage, and how the missing requests compare with the paired ones where anything is missing."""
    for name, part in evidence.slices.items():
        if part.coverage is not None:
            metrics.set("shadow_gate_coverage_ratio", part.coverage, run=run, slice=name)
        missing = part.missing
        if missing is None:
            continue
        metrics.set("shadow_gate_missing_ratio", missing.share, run=run, slice=name)
        if missing.size_ratio is not None:
            metrics.set("shadow_gate_missing_size_ratio", missing.size_ratio, run=run, slice=name)
        if missing.latency_ratio is not None:
            metrics.set("shadow_gate_missing_latency_ratio", missing.latency_ratio, run=run, slice=name)
