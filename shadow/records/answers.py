"""What stands in `shadow-answers`: answers, ticks, recorded grades, reports and votes, in one order per partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shadow.records.requests import MirroredRequest

ANSWERED: Final = "answered"
TIMEOUT: Final = "timeout"
ERROR: Final = "error"
TOO_LARGE: Final = "too_large"
REFUSED: Final = "refused"
EXPIRED: Final = "expired"
UNREADABLE: Final = "unreadable"

OUTCOMES: Final = (ANSWERED, TIMEOUT, ERROR, TOO_LARGE, REFUSED, EXPIRED, UNREADABLE)
FAILURES: Final = frozenset({TIMEOUT, ERROR})
"""The model's own failures: evidence, graded as failed."""
NO_EVIDENCE: Final = frozenset({TOO_LARGE, REFUSED, EXPIRED})
"""Our trouble: the role counts as missing, and nobody is blamed."""

EVERY_RUN: Final = "*"
"""The run of an answer that production's worker writes once for all runs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one role replied to one mirrored request, failure and time-out included.

    Args:
        run: Run id, or `*` for production's worker.
        request_partition: Partition of the request, and of this record.
        request_offset: Offset of the request in `shadow-requests`.
        request_time_us: Append time of the request in the log.
        outcome: One of `OUTCOMES`.
        status: HTTP status; 0 where there was none.
        started_us: When the call began, by the worker's clock.
        first_byte_us: From the call's start to the first byte; 0 where none came.
        duration_us: From the call's start to the answer's end, as the worker measured it.
        cost_micro: Cost of the call in micro-units.
        error: One sentence where the outcome is not `answered`.
        exchange: The request that was answered; None where it was unreadable or too large to carry.
    """

    run: str
    request_partition: int
    request_offset: int
    request_time_us: int
    role: str
    version: str
    outcome: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    started_us: int
    first_byte_us: int
    duration_us: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micro: int = 0
    error: str | None = None
    exchange: MirroredRequest | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """States that a tile's requests are all there, or, without a tile, only moves the watermark.

    Args:
        run: Run id.
        tile: Number of the tile that ended; None for a plain tick of an idle partition.
        requests_end: First request offset appended at or after the tile's end; 0 in a plain tick.
    """

    run: str
    tile: int | None = None
    requests_end: int = 0


ASKED: Final = "asked"


@dataclass(frozen=True, slots=True)
class RecordedGrade:
    """A grade that is slow or not deterministic, made once and read back, or the mark that it was asked for.

    Args:
        run: Run id.
        request_offset: The pair's request.
        comparison: Name of the comparison, for example `candidate-production`.
        grader: Name of the grader.
        role: Whose answer was graded.
        outcome: `asked` for the mark, else an outcome of `shadow.records.grades`.
        score: In the grader's own unit; None where there is none.
        reason: One sentence.
    """

    run: str
    request_offset: int
    comparison: str
    grader: str
    role: str
    outcome: str
    score: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A proxy's cumulative counters for one partition, written each interval and at its end.

    Args:
        is_final: True in the last report of an epoch; an epoch without one has an unknown tail.
    """

    process: str
    epoch_us: int
    sequence: int
    seen: int
    dropped: Mapping[str, int]
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Feedback:
    """A user's verdict on the answer that was served; it belongs to no run.

    Args:
        request_partition: Partition of the request, and of this record.
        request_id: The proxy's own id of the live request.
        decision_id: The decision under which it was routed; None while none was in force.
        is_routed: Whether the candidate was to serve it, also where production did in the end.
        cell: Cluster cell of its sampling key, in [0, 128); 0 without a decision.
        verdict: `negative` or `positive`.
        reason: What the user said; may be empty.
        given_us: When it came in, by the gate's clock.
    """

    request_partition: int
    request_id: str
    decision_id: str | None
    is_routed: bool
    cell: int
    verdict: str
    reason: str
    given_us: int


AnswersRecord = Answer | Tick | RecordedGrade | Report | Feedback
