"""The metrics of several processes as one page, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, tuple[tuple[str, str], ...]]

LARGEST: Final = frozenset({"shadow_build_info", "shadow_proxy_share_ratio"})
"""Gauges that say the same in every process."""
SMALLEST: Final = frozenset({"shadow_service_up", "shadow_proxy_on"})
"""Flags that are down where they are down in one process."""


@dataclass(slots=True)
class Page:
    """One process's metrics, or the sum of several.

    Args:
        families: Kind and help by name of the family.
        samples: Values by family, and by name and labels of the sample, in their order.
    """

    families: dict[str, tuple[str, str]] = field(default_factory=dict)
    samples: dict[str, dict[Key, float]] = field(default_factory=dict)

    def counters(self) -> Page:
        """Only what grows for ever: what a process leaves behind when it ends."""
        growing = {name for name, (kind, _) in self.families.items() if kind in ("counter", "histogram")}
        return Page(
            {name: self.families[name] for name in growing}, {name: dict(self.samples[name]) for name in growing}
        )


def read(text: str) -> Page:
    """A page as it was served.

    Raises:
        ValueError: If it is none.
    """
    page = Page()
    for family in text_string_to_metric_families(text):
        page.families[family.name] = (family.type, family.documentation)
        page.samples[family.name] = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in family.samples
        }
    return page


def summed(pages: Iterable[Page]) -> Page:
    """Counters, histograms and amounts added up; shares and flags as `LARGEST` and `SMALLEST` say."""
    total = Page()
    for page in pages:
        for name, about in page.families.items():
            total.families.setdefault(name, about)
            _add(name, total.samples.setdefault(name, {}), page.samples[name])
    return total


def _add(family: str, into: dict[Key, float], samples: Mapping[Key, float]) -> None:
    for key, value in samples.items():
        if key not in into:
            into[key] = value
        elif family in LARGEST:
            into[key] = max(into[key], value)
        elif family in SMALLEST:
            into[key] = min(into[key], value)
        else:
            into[key] += value


def written(page: Page) -> bytes:
    """A page in the text format."""
    return generate_latest(_Collected(page))


class _Collected:
    """What `generate_latest` wants of a registry."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def collect(self) -> Iterable[Metric]:
        for name, (kind, text) in self._page.families.items():
            metric = Metric(name, text, kind)
            for (sample, labels), value in self._page.samples[name].items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
