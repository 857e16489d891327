"""The one catalogue of Prometheus metrics of all processes, and the registry of one process.

Names have the prefix `shadow_` and end in a base unit or, for counters, in `_total`. Labels take values from
the configuration or from fixed lists only, never from traffic; every label set that is known at the start is
published at 0 from the start, so that `rate()` and `absent()` tell the truth.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from itertools import product
from typing import Any, Final, Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shadow.records.answers import OUTCOMES
from shadow.records.comparisons import ROLES_BY_COMPARISON
from shadow.records.tallies import CLASSES
from shadow.records.votes import VERDICTS as VOTES

Process = Literal["proxy", "worker", "comparator", "gate", "notifier"]

PROXY: Final = frozenset({"proxy"})
WORKER: Final = frozenset({"worker"})
COMPARATOR: Final = frozenset({"comparator"})
GATE: Final = frozenset({"gate"})
NOTIFIER: Final = frozenset({"notifier"})
EVERY: Final = PROXY | WORKER | COMPARATOR | GATE | NOTIFIER

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OVERHEAD_SECONDS: Final = (0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25)

CODE_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "malformed", "aborted")
COMPARISONS: Final = tuple(ROLES_BY_COMPARISON)
DROP_REASONS: Final = (
    "queue_full",
    "too_large",
    "aborted",
    "kafka_down",
    "excluded",
    "redaction",
    "off",
    "sampled_out",
)
UNKNOWN_REASON: Final = "unknown"
"""Reasons that a proxy of another version gives."""
SKIPPED: Final = ("not_asked", "served_live", "failed_live")
"""Requests for which a worker makes no call."""
VERDICTS: Final = ("PASS", "UNDECIDED", "BROKEN", "FAIL")
DECISIONS: Final = ("promote", "hold", "rollback", "expire")
STATES: Final = ("shadow", "canary", "watch", "done", "rolled_back", "expired", "broken")
SERIES_MAX: Final = 20_000
"""More series than this of one metric are a mistake in the configuration, not a measurement."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the catalogue.

    Args:
        kind: `counter`, `gauge` or `histogram`.
        unit: What one means: `requests`, `seconds`, `bytes`, a ratio, or `1` for a flag.
        processes: Which processes publish it.
        labels: Label names.
        values: The fixed values of a label; the others come from the configuration.
        buckets: Upper bounds of a histogram's buckets.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    processes: frozenset[str]
    help: str
    labels: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = SECONDS


def _counter(name: str, unit: str, processes: frozenset[str], help: str, *labels: str, **values: Any) -> Metric:
    return Metric(name, "counter", unit, processes, help, labels, values)


def _gauge(name: str, unit: str, processes: frozenset[str], help: str, *labels: str, **values: Any) -> Metric:
    return Metric(name, "gauge", unit, processes, help, labels, values)


def _seconds(
    name: str, processes: frozenset[str], help: str, *labels: str, buckets: tuple[float, ...] = SECONDS
) -> Metric:
    return Metric(name, "histogram", "seconds", processes, help, labels, {}, buckets)


CATALOGUE: Final = (
    # Every process.
    _gauge("shadow_build_info", "1", EVERY, "Version of Shadow and Python that runs.", "version", "python"),
    _gauge(
        "shadow_service_up",
        "1",
        EVERY,
        "Whether a service answered when it was last needed.",
        "service",
        service=("kafka", "redis"),
    ),
    _counter(
        "shadow_dead_letters_total",
        "records",
        WORKER | COMPARATOR | NOTIFIER,
        "Records put aside because they could not be decoded or handled, by the topic they stood in.",
        "topic",
    ),
    # The proxy.
    _counter(
        "shadow_proxy_requests_total",
        "requests",
        PROXY,
        "Live requests by the class of status that the client got; malformed ones were refused unforwarded.",
        "code_class",
        code_class=CODE_CLASSES,
    ),
    _seconds(
        "shadow_proxy_overhead_seconds",
        PROXY,
        "Time a live request spent in the proxy itself, waiting for others left out; one of 16 is measured.",
        buckets=OVERHEAD_SECONDS,
    ),
    _counter("shadow_mirror_seen_total", "requests", PROXY, "Live requests seen by the mirror."),
    _counter("shadow_mirror_mirrored_total", "requests", PROXY, "Copies handed to the Kafka producer."),
    _counter(
        "shadow_mirror_dropped_total",
        "requests",
        PROXY,
        "Requests of which no copy stands in the topic, by reason.",
        "reason",
        reason=DROP_REASONS,
    ),
    _gauge("shadow_mirror_queue_bytes", "bytes", PROXY, "Copies that wait to be encoded or acknowledged."),
    _counter(
        "shadow_proxy_upstream_failures_total",
        "failures",
        PROXY,
        "Failures of an upstream: no connection, no answer in time, none at all, only a part of one, or no address.",
        "kind",
        kind=("connect", "time_out", "broken", "truncated", "resolve"),
    ),
    _counter(
        "shadow_proxy_retries_total",
        "requests",
        PROXY,
        "Requests sent again: an idle connection had been closed.",
    ),
    _counter("shadow_proxy_stalls_total", "1", PROXY, "Times that the event loop stood still for more than 50 ms."),
    _counter("shadow_proxy_tunnels_total", "connections", PROXY, "Connections that became WebSockets."),
    _gauge("shadow_proxy_connections", "connections", PROXY, "Clients' connections that are open."),
    _gauge("shadow_proxy_active", "requests", PROXY, "Requests that are being answered."),
    _gauge("shadow_proxy_on", "1", PROXY, "Is 0 while the kill switch is off: nothing is copied, and the share is 0."),
    _gauge("shadow_proxy_share_ratio", "ratio", PROXY, "Share of the sessions that a candidate serves now."),
    _counter(
        "shadow_proxy_fallbacks_total",
        "requests",
        PROXY,
        "Requests of the candidate's share that production served, since the candidate was not reached.",
    ),
    _counter(
        "shadow_kafka_delivery_failures_total",
        "records",
        PROXY | WORKER,
        "Records that Kafka did not acknowledge.",
    ),
    # Workers.
    _counter(
        "shadow_worker_requests_total",
        "requests",
        WORKER,
        "Requests that a worker has dealt with, by the outcome of the call or why there was none.",
        "role",
        "result",
        result=OUTCOMES + SKIPPED,
    ),
    _seconds("shadow_worker_call_seconds", WORKER, "Duration of the model's calls.", "role"),
    _gauge("shadow_worker_inflight", "calls", WORKER, "Calls of the model that are under way.", "role"),
    _gauge("shadow_worker_limit", "calls", WORKER, "Calls that may be under way at once, as adapted.", "role"),
    _gauge("shadow_worker_waiting", "requests", WORKER, "Requests read and not yet answered for good.", "role"),
    _gauge("shadow_worker_paused_partitions", "partitions", WORKER, "Partitions that are not read now.", "role"),
    _counter("shadow_worker_cost_total", "money", WORKER, "What the model's calls have cost.", "role"),
    _gauge(
        "shadow_worker_budget_spent_ratio",
        "ratio",
        WORKER,
        "Share of the budget that is spent, the larger of cost and calls; 0 without a budget.",
        "role",
    ),
    # The comparator.
    _gauge("shadow_answers_records", "records", COMPARATOR, "Records folded in this run.", "run", "partition"),
    _gauge("shadow_answers_duplicate", "records", COMPARATOR, "Answers of a role that had one.", "run", "partition"),
    _gauge("shadow_answers_late", "records", COMPARATOR, "Answers whose tile had closed.", "run", "partition"),
    _counter(
        "shadow_pairs_total",
        "requests",
        COMPARATOR,
        "Requests of closed tiles by slice and class, as this process closed them.",
        "run",
        "comparison",
        "slice",
        "result",
        comparison=COMPARISONS,
        result=CLASSES,
    ),
    _seconds("shadow_checkpoint_seconds", COMPARATOR, "Time of one checkpoint in the store."),
    _counter("shadow_checkpoints_refused_total", "checkpoints", COMPARATOR, "Checkpoints that another state refused."),
    _gauge(
        "shadow_watermark_lag_seconds",
        "seconds",
        COMPARATOR,
        "How far a partition's watermark is behind the wall clock.",
        "run",
        "partition",
    ),
    _gauge("shadow_open_tiles", "tiles", COMPARATOR, "Tiles with counts that are not closed.", "run", "partition"),
    _gauge("shadow_waiting_pairs", "requests", COMPARATOR, "Requests that are not decided.", "run", "partition"),
    _gauge("shadow_requests_seen", "requests", COMPARATOR, "Live requests that are accounted for.", "run", "partition"),
    _gauge("shadow_requests_present", "requests", COMPARATOR, "Of these, found in the topic.", "run", "partition"),
    _gauge(
        "shadow_requests_dropped",
        "requests",
        COMPARATOR,
        "Of these, not copied, by reason.",
        "run",
        "partition",
        "reason",
        reason=(*DROP_REASONS, UNKNOWN_REASON),
    ),
    _gauge(
        "shadow_requests_lost",
        "requests",
        COMPARATOR,
        "Of these, copied by a proxy and never in the topic.",
        "run",
        "partition",
    ),
    _gauge("shadow_requests_open", "requests", COMPARATOR, "Seen, and not accountable yet.", "run", "partition"),
    _gauge(
        "shadow_requests_unaccounted",
        "requests",
        COMPARATOR,
        "Requests in no class, or in more than one: 0 unless the counting is wrong.",
        "run",
        "partition",
        "comparison",
        comparison=COMPARISONS,
    ),
    _gauge("shadow_asks_inflight", "calls", COMPARATOR, "Calls of grading services that are under way."),
    # The gate.
    _gauge(
        "shadow_gate_state",
        "1",
        GATE,
        "Is 1 for the stage that a run is in, 0 for the others.",
        "run",
        "state",
        state=STATES,
    ),
    _gauge("shadow_gate_pairs", "pairs", GATE, "Pairs that count towards the stage's volume.", "run"),
    _gauge("shadow_gate_pairs_required", "pairs", GATE, "Pairs that the stage needs.", "run"),
    _gauge(
        "shadow_gate_condition_met",
        "1",
        GATE,
        "Is 1 where a condition of evidence is met, 0 where it holds the gate.",
        "run",
        "condition",
        "slice",
    ),
    _gauge("shadow_gate_coverage_ratio", "ratio", GATE, "Pairs by requests that should be pairs.", "run", "slice"),
    _gauge("shadow_gate_missing_ratio", "ratio", GATE, "Share of requests that are missing.", "run", "slice"),
    _gauge(
        "shadow_gate_missing_size_ratio",
        "ratio",
        GATE,
        "Mean size of missing requests by that of paired ones; above 0.5 % missing it must be 0.8 to 1.25.",
        "run",
        "slice",
    ),
    _gauge(
        "shadow_gate_missing_latency_ratio",
        "ratio",
        GATE,
        "The same of production's latency.",
        "run",
        "slice",
    ),
    _gauge(
        "shadow_gate_rule_verdict",
        "1",
        GATE,
        "Is 1 for the verdict of a rule, 0 for the others.",
        "run",
        "rule",
        "slice",
        "verdict",
        verdict=VERDICTS,
    ),
    _gauge("shadow_gate_held", "1", GATE, "Is 1 while someone holds the run, so that it is not promoted.", "run"),
    _gauge("shadow_gate_rollback_log_e", "nats", GATE, "Joint evidence for a rollback.", "run"),
    _gauge("shadow_gate_rollback_log_e_needed", "nats", GATE, "Evidence at which a run is rolled back.", "run"),
    _gauge(
        "shadow_gate_detectable_regression_ratio",
        "ratio",
        GATE,
        "Smallest regression that a rule alone will roll back by the deadline in 9 runs of 10, at today's traffic.",
        "run",
        "rule",
        "slice",
    ),
    _gauge("shadow_gate_baseline_blocks", "blocks", GATE, "Blocks of 1,000 A/A pairs that were tested.", "run"),
    _gauge("shadow_gate_baseline_alarms", "blocks", GATE, "Of these, blocks with an alarm, a false one.", "run"),
    _gauge("shadow_gate_false_alarm_ratio", "ratio", GATE, "Alarms by blocks of A/A pairs.", "run"),
    _gauge("shadow_gate_false_alarm_budget_ratio", "ratio", GATE, "What alarms by blocks may be: 0.8 alpha.", "run"),
    _gauge("shadow_gate_evaluation_timestamp_seconds", "seconds", GATE, "When the last tile was judged.", "run"),
    _counter("shadow_decisions_total", "decisions", GATE, "Decisions written.", "decision", decision=DECISIONS),
    _counter(
        "shadow_feedback_total",
        "votes",
        GATE,
        "Votes of users that were taken and stand in the log.",
        "verdict",
        verdict=VOTES,
    ),
    _counter("shadow_gate_rebuilds_total", "rebuilds", GATE, "Times that a lost state had a run counted again.", "run"),
    # The notifier.
    _counter(
        "shadow_notify_attempts_total",
        "sendings",
        NOTIFIER,
        "Webhooks sent, by how that ended; failed ones are sent again, refused ones never, gone ends an endpoint.",
        "endpoint",
        "result",
        result=("delivered", "failed", "refused", "gone"),
    ),
    _seconds("shadow_notify_attempt_seconds", NOTIFIER, "Time of one sending.", "endpoint"),
    _gauge("shadow_notify_waiting", "events", NOTIFIER, "Events that were read and are not delivered.", "endpoint"),
    _gauge("shadow_notify_oldest_seconds", "seconds", NOTIFIER, "Since when the oldest of them is tried.", "endpoint"),
    _gauge("shadow_notify_gone", "1", NOTIFIER, "Is 1 once a receiver answered with 410: it gets nothing.", "endpoint"),
)

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}


class Metrics:
    """Every metric of one process in a registry of its own. Threads may share it.

    Args:
        process: Which process this is.
        values: Values of labels that the configuration knows, for example `{"role": ["candidate"]}`, and the
            services that the process needs, where it does not need all; every metric all of whose labels are known
            is published at 0.
    """

    def __init__(self, process: Process, values: Mapping[str, Iterable[str]] | None = None) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        # Each counter's creation time as a series of its own would double the page for nothing.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        known = {name: tuple(given) for name, given in (values or {}).items()}
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        self._refreshers: list[Callable[[], None]] = []
        for metric in CATALOGUE:
            if process in metric.processes:
                self._metrics[metric.name] = self._create(metric, {**metric.values, **known})
        self.set("shadow_build_info", 1, version=_version(), python=platform.python_version())

    def inc(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter."""
        counter = self._of(name, labels)
        assert isinstance(counter, Counter)
        counter.inc(amount)

    def raise_to(self, name: str, total: float, /, **labels: str) -> None:
        """Bring a counter to a total that is kept elsewhere; a smaller total than it shows changes nothing."""
        counter = self._of(name, labels)
        assert isinstance(counter, Counter)
        shown = self.registry.get_sample_value(name, labels) or 0.0
        if total > shown:
            counter.inc(total - shown)

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._of(name, labels)
        assert isinstance(gauge, Gauge)
        gauge.set(value)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add one observation to a histogram."""
        histogram = self._of(name, labels)
        assert isinstance(histogram, Histogram)
        histogram.observe(value)

    def service(self, name: str) -> Callable[[bool], None]:
        """A function that is told whether a service answered, from any thread."""
        return lambda is_up: self.set("shadow_service_up", int(is_up), service=name)

    def value(self, name: str, /, **labels: str) -> float:
        """What a counter or a gauge shows, 0 where it shows nothing."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def on_scrape(self, refresh: Callable[[], None]) -> None:
        """Call this before the metrics are read, on the reader's thread, to bring gauges up to date."""
        self._refreshers.append(refresh)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        for refresh in self._refreshers:
            refresh()
        return prometheus_client.generate_latest(self.registry)

    def _of(self, name: str, labels: Mapping[str, str]) -> Counter | Gauge | Histogram:
        metric = self._metrics.get(name)
        if metric is None:
            raise KeyError(f"{name} is not in the catalogue of this process's metrics")
        return metric.labels(**labels) if labels else metric

    def _create(self, metric: Metric, known: Mapping[str, tuple[str, ...]]) -> Counter | Gauge | Histogram:
        created: Counter | Gauge | Histogram
        if metric.kind == "counter":
            created = Counter(metric.name, metric.help, metric.labels, registry=self.registry)
        elif metric.kind == "gauge":
            created = Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
        else:
            created = Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry)
        if metric.labels and all(label in known for label in metric.labels):
            label_sets = list(product(*(known[label] for label in metric.labels)))
            if len(label_sets) > SERIES_MAX:
                raise ValueError(f"{metric.name} would have {len(label_sets)} series, more than {SERIES_MAX}")
            for label_set in label_sets:
                created.labels(*label_set)
        return created


def _version() -> str:
    try:
        return metadata.version("shadow-canary")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree that was never installed
