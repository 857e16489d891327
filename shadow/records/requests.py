"""What the proxy writes to `shadow-requests`: a copy of one live request and the answer that its user got."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a copy stands in the stream of one proxy process towards one partition.

    The counters are cumulative over (process, epoch, partition), so that whoever reads any two
    records of a partition knows how many requests the proxy saw between them and what became of each.

    Args:
        process: Name of the proxy process, stable over restarts (host and port).
        epoch_us: Start of this process; a restart begins a new epoch.
        sequence: Copies handed to the producer so far, this one included; 1 for the first.
        seen: Live requests of this partition so far, this one included.
        dropped: Requests that were not handed over, by reason (`queue_full`, `too_large`, `aborted`,
            `excluded`, `redaction`, `off`, `sampled_out`), and, under `kafka_down`, copies that were
            handed over but never acknowledged.
    """

    process: str
    epoch_us: int
    sequence: int
    seen: int
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Live:
    """The answer that the user got.

    Args:
        version: Name of the version that served it.
        role: `production` or `candidate`.
        outcome: `answered`, `error` or `timeout` (of the upstream, as the proxy saw it).
        status: HTTP status that the user got.
        first_byte_us: From the request's end to the first byte of the answer.
        duration_us: From the request's end to the answer's end.
        decision_id: The decision under which the request was routed; None while no decision is in force.
        finish_reason: The model's own reason for ending, where the answer states one.
        failed_attempt: Why a call of the candidate failed before production served; None otherwise.
        gap_us: Longest time between two pieces of the answer; 0 where it came in one.
    """

    version: str
    role: str
    outcome: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    first_byte_us: int
    duration_us: int
    is_stream: bool = False
    decision_id: str | None = None
    finish_reason: str | None = None
    failed_attempt: str | None = None
    gap_us: int = 0


@dataclass(frozen=True, slots=True)
class MirroredRequest:
    """One live request, copied. It belongs to no run.

    Args:
        request_id: Our own id (UUIDv7); the client's `x-request-id` is only carried.
        key: Sampling key: session, else user, else request id. Also the Kafka key.
        event_time_us: When the proxy had read the request; shown, never used for tiles.
        headers: Allow-listed headers only, names in lower case.
        u: Hash of the sampling key in [0, 1).
        sample: Base sampling rate in force, in (0, 1].
        quotas: Higher rates in force, by slice.
        live: None where another tool made the copy and its answer is not known.
    """

    request_id: str
    key: str
    event_time_us: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    u: float
    sample: float
    quotas: Mapping[str, float]
    origin: Origin
    client_request_id: str | None = None
    live: Live | None = None
