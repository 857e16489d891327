"""The catalogue: no metric in the code that is not in it, sane names, label sets at 0 from the start."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadow.metrics import BY_NAME, CATALOGUE, Metric, Metrics

ROOT = Path(__file__).parent.parent
USES = {"inc": "counter", "raise_to": "counter", "set": "gauge", "observe": "histogram"}
PREFIX = "shadow_"
NOT_PUBLISHED = {
    "shadow_proxy_overhead_seconds": "the proxy observes a request's whole time, the upstream's included",
    "shadow_asks_inflight": "the comparator's loop does not set it",
}


def sources() -> Iterator[Path]:
    for package in ("shadow", "consumers"):
        yield from sorted((ROOT / package).rglob("*.py"))


def pattern_of(node: ast.expr) -> str | None:
    """A pattern of the metric's name that an expression gives: a literal, or an f-string with anything inside."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else "[a-z_]+" for p in node.values]
        return "".join(parts)
    return None


def uses() -> Iterator[tuple[str, str, str]]:
    """(place, method, pattern of the name) of every use of a metric in the code."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                pattern = pattern_of(node.args[0])
                if node.func.attr in USES and pattern is not None and pattern.startswith(PREFIX):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.attr, pattern


def test_every_metric_in_the_code_is_in_the_catalogue() -> None:
    """
    A use names an entry of the right kind.
    """
    found = list(uses())
    assert len(found) > 10

    for place, method, pattern in found:
        kinds = {metric.kind for metric in CATALOGUE if re.fullmatch(pattern, metric.name)}
        assert USES[method] in kinds, f"{place}: {method}({pattern}) is not a {USES[method]} of the catalogue"


def test_every_metric_of_the_catalogue_is_in_the_code() -> None:
    """
    What the catalogue promises is published somewhere; the exceptions are named, each with its reason.
    """
    patterns = [pattern for _, _, pattern in uses()]

    orphans = {m.name for m in CATALOGUE if not any(re.fullmatch(pattern, m.name) for pattern in patterns)}
    assert orphans <= set(NOT_PUBLISHED), f"in the catalogue and nowhere else: {orphans - set(NOT_PUBLISHED)}"


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    """
    Prefix, base unit last, `_total` for counters and only for them, help as a sentence, bounded labels.
    """
    assert re.fullmatch(r"shadow_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    if metric.unit in ("seconds", "bytes", "ratio"):
        assert metric.name.removesuffix("_total").endswith(f"_{metric.unit}")
    assert metric.help.endswith(".") and metric.help[0].isupper()
    assert set(metric.values) <= set(metric.labels)
    assert not {"request_id", "user", "path", "key", "error"} & set(metric.labels)
    assert list(metric.buckets) == sorted(metric.buckets)


def test_names_are_unique() -> None:
    """
    One entry a name.
    """
    assert len(BY_NAME) == len(CATALOGUE)


def test_known_label_sets_are_published_at_zero() -> None:
    """
    Before anything happened, every combination of configured and fixed label values is there.
    """
    text = Metrics("gate", {"run": ["r1"], "slice": ["all", "math"], "rule": ["quality"]}).text().decode()

    assert text.count("shadow_gate_coverage_ratio{") == 2
    assert text.count("shadow_gate_rule_verdict{") == 8
    assert 'shadow_decisions_total{decision="promote"} 0.0' in text
    assert "_created" not in text


def test_a_process_has_only_its_own_metrics() -> None:
    """
    The worker's page says nothing of the gate, and using a foreign or unknown metric fails at once.
    """
    metrics = Metrics("worker")

    assert "shadow_gate" not in metrics.text().decode()
    with pytest.raises(KeyError, match="shadow_gate_pairs is not in the catalogue"):
        metrics.set("shadow_gate_pairs", 1, run="r")
    with pytest.raises(KeyError):
        metrics.inc("shadow_nothing_total")


def test_counters_follow_totals_kept_elsewhere() -> None:
    """
    A counter is raised to a total, never lowered, and refreshed when it is read.
    """
    metrics = Metrics("proxy")
    total = 5
    metrics.on_scrape(lambda: metrics.raise_to("shadow_mirror_seen_total", total))

    metrics.text()
    assert metrics.value("shadow_mirror_seen_total") == 5
    total = 3
    metrics.text()
    assert metrics.value("shadow_mirror_seen_total") == 5
    metrics.raise_to("shadow_mirror_dropped_total", 2, reason="off")
    assert metrics.value("shadow_mirror_dropped_total", reason="off") == 2


def test_slices_from_traffic_cannot_blow_up_the_page() -> None:
    """
    More series than any configuration needs are refused at the start; input 95.
    """
    many = [f"slice-{n}" for n in range(10_000)]

    with pytest.raises(ValueError, match="shadow_gate_rule_verdict would have 40000 series"):
        Metrics("gate", {"run": ["r"], "slice": many, "rule": ["quality"]})
