"""What the metrics of a running proxy say about its copies, once or again and again."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Account:
    """The mirror's numbers at one scrape; reasons that dropped nothing are left out."""

    seen: int
    mirrored: int
    dropped: Mapping[str, int]
    queue_bytes: int = 0

    @property
    def unaccounted(self) -> int:
        """Requests in no class, or in more than one; a copy that Kafka did not take has a sequence number as well."""
        return self.seen - self.mirrored - sum(n for reason, n in self.dropped.items() if reason != "kafka_down")

    @property
    def delivered(self) -> int:
        """Copies that stand in the topic once nothing is under way."""
        return self.mirrored - self.dropped.get("kafka_down", 0)


NOTHING: Final = Account(0, 0, {})


def metrics_text(port: int) -> str:
    """The metrics page of a process."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        page: bytes = answer.read()
    return page.decode()


def account(port: int) -> Account:
    """The counters now."""
    seen = mirrored = queue_bytes = 0
    dropped = {}
    for family in text_string_to_metric_families(metrics_text(port)):
        for sample in family.samples:
            if sample.name == "shadow_mirror_seen_total":
                seen = int(sample.value)
            elif sample.name == "shadow_mirror_mirrored_total":
                mirrored = int(sample.value)
            elif sample.name == "shadow_mirror_queue_bytes":
                queue_bytes = int(sample.value)
            elif sample.name == "shadow_mirror_dropped_total" and sample.value:
                dropped[sample.labels["reason"]] = int(sample.value)
    return Account(seen, mirrored, dropped, queue_bytes)


class Scraper:
    """Scrapes until told to stop; a context manager. A scrape that fails fails the test that stops it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="scraper", daemon=True)
        self.accounts: list[Account] = []

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(_INTERVAL_S):
                self.accounts.append(account(self._port))
        except Exception as error:  # noqa: BLE001 -- raised again by the test that stops it
            self._error = error
