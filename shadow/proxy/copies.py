"""Turn a finished exchange into the record that is written about it. Pure but for what it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shadow.proxy.accounts import Counts
from shadow.proxy.heads import Field, RequestHead
from shadow.proxy.redact import Redactor
from shadow.proxy.sampling import Place
from shadow.records.answers import ANSWERED, ERROR
from shadow.records.comparisons import CANDIDATE
from shadow.records.made import maker
from shadow.records.requests import Live, MirroredRequest, Origin

_make_request: Final = maker(MirroredRequest)
_make_origin: Final = maker(Origin)
_make_live: Final = maker(Live)
_FINISH: Final = re.compile(rb'"(?:finish_reason|stop_reason)"[ \t\r\n]*:[ \t\r\n]*"([A-Za-z0-9_-]{1,64})"')
_FINISH_TAIL_BYTES: Final = 8 << 10
_COPY_BYTES: Final = 2048
_HEAD_FACTOR: Final = 4
"""Small objects: a header line of 40 bytes is held as three values of 33 bytes more each."""
_TRACE: Final = (("traceparent", b"traceparent"), ("tracestate", b"tracestate"))


@dataclass(slots=True)
class Tee:
    """A bounded copy of one body as it passes.

    Args:
        reason: Why the body is not held; None while it is.
    """

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    reason: str | None = None

    def stop(self, reason: str) -> int:
        """Let go of the body; returns the bytes that it held."""
        held, self.size, self.reason = self.size, 0, reason
        self.parts.clear()
        return held


@dataclass(slots=True)
class Copy:
    """What is known of one live request when it is handed to the mirror.

    Args:
        partition: None while the number of partitions is unknown.
        status: 0 where another tool made the copy, so that nobody here knows the answer.
        outcome: `answered`, `error` or `timeout`; an answer with a status of 500 or above is an error,
            as it is for the workers.
        candidate: Version of the candidate that the request was sent to; None where production serves.
        decision_id: The decision under which it was routed; None while none is in force.
        failed_attempt: Why the candidate could not be reached, so that production served; None otherwise.
        gap_s: Longest time between two pieces of the answer, in seconds.
    """

    request_id: str
    key: str
    place: Place
    partition: int | None
    head: RequestHead
    request: Tee
    answer: Tee
    event_time_us: int = 0
    status: int = 0
    answer_fields: list[Field] = field(default_factory=list)
    answer_head_bytes: int = 0
    first_byte_us: int = 0
    duration_us: int = 0
    outcome: str = ANSWERED
    candidate: str | None = None
    decision_id: str | None = None
    failed_attempt: str | None = None
    gap_s: float = 0.0

    @property
    def head_bytes(self) -> int:
        """What it weighs in memory beside its bodies, generously."""
        return _COPY_BYTES + _HEAD_FACTOR * (self.head.size + self.answer_head_bytes)

    @property
    def held_bytes(self) -> int:
        """What it weighs in memory."""
        return self.head_bytes + self.request.size + self.answer.size


@dataclass(frozen=True, slots=True)
class Served:
    """By whom requests are served, and under which rates they are copied."""

    version: str
    role: str
    process: str
    epoch_us: int
    sample: float
    quotas: Mapping[str, float]


def log_headers(copy: Copy) -> dict[str, bytes]:
    """The headers that travel with the record itself, as they went upstream."""
    values = copy.head.values
    headers = {name: values[raw] for name, raw in _TRACE if raw in values}
    headers["x-request-id"] = values.get(b"x-request-id") or copy.request_id.encode()
    return headers


def redacted_request(copy: Copy, redactor: Redactor) -> tuple[dict[str, str], bytes]:
    """The recorded headers and body of the request.

    Raises:
        Unredactable: If the body cannot be masked.
    """
    headers = redactor.headers(copy.head.values.items())
    return headers, redactor.body(b"".join(copy.request.parts), headers)


def mirrored_request(
    copy: Copy, headers: dict[str, str], body: bytes, *, served: Served, counts: Counts, redactor: Redactor
) -> MirroredRequest:
    """The record of one copy.

    Args:
        headers: As `redacted_request` returned them.
        body: Likewise.
        counts: The partition's counters with this copy included.

    Raises:
        Unredactable: If the answer's body cannot be masked.
    """
    client_id = copy.head.values.get(b"x-request-id")
    return _make_request(
        request_id=copy.request_id,
        key=copy.key,
        event_time_us=copy.event_time_us,
        method=copy.head.method.decode("latin-1"),
        path=redactor.target(copy.head.target),
        headers=headers,
        body=body,
        u=copy.place.u,
        sample=served.sample,
        quotas=served.quotas,
        origin=_make_origin(served.process, served.epoch_us, counts.sequence, counts.seen, counts.dropped),
        client_request_id=None if client_id is None else headers.get("x-request-id"),
        live=_live(copy, served, redactor) if copy.status else None,
    )


def _live(copy: Copy, served: Served, redactor: Redactor) -> Live:
    fields = [(lower, value) for _, lower, value in copy.answer_fields]
    headers = redactor.headers(fields)
    raw = b"".join(copy.answer.parts)
    finish = None if "content-encoding" in headers else _FINISH.findall(raw[-_FINISH_TAIL_BYTES:])
    outcome = ERROR if copy.outcome == ANSWERED and copy.status >= 500 else copy.outcome
    candidate = copy.candidate if copy.failed_attempt is None else None
    return _make_live(
        version=served.version if candidate is None else candidate,
        role=served.role if candidate is None else CANDIDATE,
        outcome=outcome,
        status=copy.status,
        headers=headers,
        body=redactor.body(raw, headers),
        first_byte_us=copy.first_byte_us,
        duration_us=copy.duration_us,
        is_stream=headers.get("content-type", "").lower().startswith("text/event-stream"),
        decision_id=copy.decision_id,
        finish_reason=finish[-1].decode() if finish else None,
        failed_attempt=copy.failed_attempt,
        gap_us=int(copy.gap_s * 1e6),
    )
