"""Decide whether a role is asked, and make its Answer of what it replied. Pure.

Worker and fold share `is_asked`, so that a request whose role was never asked is not counted as missing.
"""

from __future__ import annotations

from hashlib import blake2b

from shadow.records.answers import ERROR, REFUSED, TOO_LARGE, UNREADABLE, Answer
from shadow.records.log import LogRecord
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest

CANDIDATE = "candidate"
CARRIED_HEADERS = ("traceparent", "tracestate", "x-request-id")


def is_asked(role: str, key: str, rate: float) -> bool:
    """Whether a role answers the requests of a sampling key; the same on every machine and in every version.

    Args:
        key: Sampling key of the request, so that a session is asked as a whole or not at all.
        rate: Share of the keys that are asked, in [0, 1].
    """
    if rate >= 1.0:
        return True
    digest = blake2b(f"{role}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < rate


def is_served_by(role: str, request: MirroredRequest) -> bool:
    """Whether the request itself already carries the role's answer, a failed attempt of the candidate included."""
    live = request.live
    return live is not None and (live.role == role or (role == CANDIDATE and live.failed_attempt is not None))


def answer_from_reply(
    reply: Reply, request: MirroredRequest, record: LogRecord, *, run: str, role: str, version: str
) -> Answer:
    """The Answer to write for a model's reply.

    Args:
        record: The request's record in the log, for its position and append time.
        run: Run id, or `*` for production's worker.
    """
    return Answer(
        run=run,
        request_partition=record.partition,
        request_offset=record.offset,
        request_time_us=record.time_us,
        role=role,
        version=version,
        outcome=reply.outcome,
        status=reply.status,
        headers=reply.headers,
        body=reply.body,
        started_us=reply.started_us,
        first_byte_us=reply.first_byte_us,
        duration_us=reply.duration_us,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cost_micro=reply.cost_micro,
        error=reply.error,
        exchange=request,
    )


def failed_attempt_answer(request: MirroredRequest, record: LogRecord, *, run: str, role: str, version: str) -> Answer:
    """The Answer to a live request that the candidate failed before production served it: nobody is asked again."""
    live = request.live
    assert live is not None and live.failed_attempt is not None, "the live exchange says that the candidate failed"
    reply = Reply(ERROR, started_us=request.event_time_us, error=live.failed_attempt)
    return answer_from_reply(reply, request, record, run=run, role=role, version=version)


def headers_of(record: LogRecord, run: str) -> dict[str, bytes]:
    """Kafka headers of an Answer: its run, so that others skip it undecoded, and the request's trace."""
    headers = {name: record.headers[name] for name in CARRIED_HEADERS if name in record.headers}
    headers["run"] = run.encode()
    return headers


def unreadable_answer(record: LogRecord, error: str, *, run: str, role: str, version: str, now_us: int) -> Answer:
    """The Answer to a request that could not be decoded: nobody was asked, and the request is accounted for."""
    return Answer(
        run=run,
        request_partition=record.partition,
        request_offset=record.offset,
        request_time_us=record.time_us,
        role=role,
        version=version,
        outcome=UNREADABLE,
        status=0,
        headers={},
        body=b"",
        started_us=now_us,
        first_byte_us=0,
        duration_us=0,
        error=error,
    )


def without_bodies(answer: Answer, error: str) -> Answer:
    """The same Answer small enough for any producer: no body, no exchange, outcome `too_large`."""
    return _stripped(answer, TOO_LARGE, error, exchange=None)


def without_reply(answer: Answer, error: str) -> Answer:
    """The same Answer without the model's words, which could not be written down; the exchange stays."""
    return _stripped(answer, REFUSED, error, exchange=answer.exchange)


def _stripped(answer: Answer, outcome: str, error: str, *, exchange: MirroredRequest | None) -> Answer:
    return Answer(
        run=answer.run,
        request_partition=answer.request_partition,
        request_offset=answer.request_offset,
        request_time_us=answer.request_time_us,
        role=answer.role,
        version=answer.version,
        outcome=outcome,
        status=answer.status,
        headers={},
        body=b"",
        started_us=answer.started_us,
        first_byte_us=answer.first_byte_us,
        duration_us=answer.duration_us,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_micro=answer.cost_micro,
        error=error,
        exchange=exchange,
    )
