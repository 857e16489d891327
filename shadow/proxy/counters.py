"""Plain numbers about one proxy process, for whoever exports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shadow.proxy.accounts import Counts

Observe = Callable[[float], None]
"""Called with the seconds that the proxy itself took for a request."""

OBSERVED: Final = 16
"""One of so many requests is observed: a histogram of a sample has the same quantiles, and costs a sixteenth."""


def _ignore(seconds: float) -> None:
    """Observe nothing."""


@dataclass(slots=True)
class ProxyCounters:
    """Cumulative numbers. The mirror's thread changes `copies` to `reports_refused`, the event loop the others.

    Args:
        malformed: Requests refused before they became live requests, by status.
        requests: Live requests by the status their client got; 0 where the client left before one.
        failures: Upstream failures, by kind (`connect`, `time_out`, `broken`, `truncated`, `resolve`).
        retries: Requests sent again because a reused upstream connection had been closed.
        fallbacks: Requests of the candidate's share that production served, since the candidate was not reached.
        tunnels: Connections that became WebSockets.
        copies: Copies that the producer took.
        undelivered: Copies whose delivery failed.
        unredactable: Copies dropped because masking or encoding failed.
        slice_failures: Requests whose slices could not be told; they count under the base rate.
        reports_refused: Reports that the producer did not take.
        stalls: Times that the event loop stood still for more than 50 ms.
        observe_failures: Calls of `observe` that raised.
        observe: Called for one of `OBSERVED` answered requests, on the event loop: from its last byte's reading to its
            writing, and likewise of the answer; waiting for a connection, the upstream and the client left out.
    """

    connections: int = 0
    refused_connections: int = 0
    upstream_connections: int = 0
    malformed: dict[int, int] = field(default_factory=dict)
    requests: dict[int, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    fallbacks: int = 0
    tunnels: int = 0
    copies: int = 0
    undelivered: int = 0
    unredactable: int = 0
    slice_failures: int = 0
    reports_refused: int = 0
    stalls: int = 0
    observe_failures: int = 0
    observe: Observe = _ignore

    def count_malformed(self, status: int) -> None:
        """Count a request that was refused."""
        self.malformed[status] = self.malformed.get(status, 0) + 1

    def count_request(self, status: int, own_s: float | None = None) -> None:
        """Count a live request.

        Args:
            own_s: What the proxy itself took; None where it cannot be told.
        """
        count = self.requests[status] = self.requests.get(status, 0) + 1
        if count % OBSERVED or own_s is None:
            return
        try:
            self.observe(own_s)
        except Exception:  # noqa: BLE001 - whoever counts must not fail a live request; counted
            self.observe_failures += 1

    def count_failure(self, kind: str) -> None:
        """Count a failure of the upstream."""
        self.failures[kind] = self.failures.get(kind, 0) + 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the proxy is doing now.

    Args:
        counters: The live object; read it, do not change it.
        partitions: Accounts by partition; `seen = sequence + sum(dropped without kafka_down)` holds in each.
        held_bytes: Bodies held for copies.
        open_clients: Client connections.
        active: Requests being answered.
        waiting_bytes: What clients sent ahead of their turn.
        idle_upstream: Connections to production that wait for use.
        share: Share of the sessions that a candidate serves, in [0, 1].
        is_mirroring: False after the kill switch.
        is_draining: True once the drain has begun.
    """

    counters: ProxyCounters
    partitions: Mapping[int, Counts]
    held_bytes: int
    open_clients: int
    active: int
    waiting_bytes: int
    idle_upstream: int
    share: float
    is_mirroring: bool
    is_draining: bool
