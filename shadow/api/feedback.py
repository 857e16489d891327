"""`POST /v1/feedback` on the gate's admin port: a user's vote on the answer that was served.

    {"request": "<x-shadow-request of the response>", "verdict": "negative", "reason": "the link is dead"}

202 {"request", "verdict"} once the vote stands in the log; anything else is {"error": sentence, "problems": []}. The
same vote may be sent again at any time, since a request's votes count once. The log is written by a thread of the run,
so that neither probes nor the gate's own loop ever wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from shadow.adapters.avro import encode
from shadow.api.body import json_body
from shadow.api.guard import Guard, Refusal
from shadow.errors import InvalidRecord, ShadowError, Unavailable, Usage
from shadow.gate.strict_json import shown, strict_object
from shadow.metrics import Metrics
from shadow.ports import Clock, Log, LogWriter
from shadow.records.answers import Feedback
from shadow.records.votes import REASON_CHARACTERS_MAX, VERDICTS, served_from_token

log = logging.getLogger("shadow.feedback")

BODY_BYTES_MAX: Final = 64 << 10
TAKE_S: Final = 15.0
"""How long a client waits for the log."""
WAITING_MAX: Final = 1024
"""Votes that are not acknowledged yet; one more is told to come again."""
AGAIN_S: Final = 5
JOIN_S: Final = 2.0
_POLL_S: Final = 0.01

_KEYS: Final = ("request", "verdict", "reason")


@dataclass(frozen=True, slots=True)
class _Served:
    """Where the votes of a run's requests go."""

    scribe: _Scribe
    partitions: int


class _Scribe:
    """A thread that owns a producer, and tells each vote's fate."""

    def __init__(self, open_writer: Callable[[], LogWriter], topic: str) -> None:
        self._open_writer = open_writer
        self._topic = topic
        self._votes: queue.SimpleQueue[tuple[Feedback, Future[None]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        # A daemon, because a write that waits for Kafka must not hold up the process's end.
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()

    def submit(self, vote: Feedback) -> Future[None]:
        with self._lock:
            if self._waiting >= WAITING_MAX:
                sentence = f"{WAITING_MAX:,} votes wait for the log already; come again"
                raise Refusal(503, sentence, headers={"retry-after": "1"})
            self._waiting += 1
        future: Future[None] = Future()
        future.add_done_callback(self._done)
        self._votes.put((vote, future))
        return future

    def stop(self) -> None:
        self._votes.put(None)
        self._thread.join(JOIN_S)

    def _done(self, _: Future[None]) -> None:
        with self._lock:
            self._waiting -= 1

    def _run(self) -> None:
        writer: LogWriter | None = None
        while (item := self._next(writer)) is not None:
            vote, future = item
            if not future.set_running_or_notify_cancel():
                continue  # whoever voted has not waited so long
            try:
                writer = writer or self._open_writer()
                self._write(writer, vote, future)
            except (ShadowError, ValueError) as trouble:
                future.set_exception(trouble)
        if writer is not None:
            writer.flush(JOIN_S / 2)
            writer.close()

    def _next(self, writer: LogWriter | None) -> tuple[Feedback, Future[None]] | None:
        """The next vote; until it comes, what was written is acknowledged."""
        while True:
            try:
                return self._votes.get(timeout=_POLL_S if writer is not None and writer.waiting else None)
            except queue.Empty:
                assert writer is not None, "without a writer nothing is waited for"
                writer.poll()

    def _write(self, writer: LogWriter, vote: Feedback, future: Future[None]) -> None:
        def delivered(error: str | None, offset: int) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(Unavailable(f"the vote was not written: {error}"))

        value, deadline_s = encode(vote), time.monotonic() + TAKE_S
        while not writer.write(self._topic, vote.request_partition, key=b"", value=value, on_delivery=delivered):
            if time.monotonic() > deadline_s:
                raise Unavailable("the vote was not written: the producer's queue is full")
            writer.flush(_POLL_S)
        writer.poll()


class FeedbackApi:
    """The route, and the run whose gate serves it at the moment.

    Args:
        host: Address on which the port listens.
        token: What a client must send as bearer token; None: nothing, and then the loopback only is served.
        metrics: Counts the votes.
        clock: Wall clock.
    """

    def __init__(self, host: str, token: str | None, metrics: Metrics, clock: Clock) -> None:
        self._guard = Guard(host, token, "votes are taken")
        self._metrics = metrics
        self._clock = clock
        self._served: _Served | None = None

    def routes(self) -> list[web.RouteDef]:
        """What the admin server serves."""
        return [web.post("/v1/feedback", self._post)]

    @contextmanager
    def serving(self, log_: Log, topic: str, partitions: int) -> Iterator[None]:
        """Take votes as long as the context lasts.

        Args:
            topic: Of the answers.
            partitions: How many it has.
        """
        served = self._served = _Served(_Scribe(log_.writer, topic), partitions)
        try:
            yield
        finally:
            self._served = None
            served.scribe.stop()

    async def _post(self, request: web.Request) -> web.Response:
        try:
            self._guard.check(request)
            body = await json_body(request, BODY_BYTES_MAX, "a vote is small")
            token, vote = vote_of_body(body, self._clock.now_us())
            await self._take(vote)
        except Refusal as refusal:
            return refusal.response()
        self._metrics.inc("shadow_feedback_total", verdict=vote.verdict)
        taken = {"request": token, "verdict": vote.verdict}
        return web.Response(status=202, body=orjson.dumps(taken), content_type="application/json")

    async def _take(self, vote: Feedback) -> None:
        served, again = self._served, {"retry-after": str(AGAIN_S)}
        if served is None:
            raise Refusal(503, "this gate has no run at the moment, so there is nowhere to write votes", headers=again)
        if vote.request_partition >= served.partitions:
            raise Refusal(
                400, f"request: read partition {vote.request_partition}, and the topic has {served.partitions}"
            )
        try:
            await asyncio.wait_for(asyncio.wrap_future(served.scribe.submit(vote)), TAKE_S)
        except TimeoutError as late:
            sentence = f"the log did not answer within {TAKE_S:g} s; send the same again, a vote counts once"
            raise Refusal(503, sentence, headers=again) from late
        except Unavailable as trouble:
            raise Refusal(503, str(trouble), headers=again) from trouble
        except (ShadowError, InvalidRecord) as trouble:
            raise Refusal(500, str(trouble)) from trouble


def vote_of_body(body: bytes, now_us: int) -> tuple[str, Feedback]:
    """The token and the vote that a body says.

    Raises:
        Refusal: 400, with what was read and what would be right.
    """
    try:
        tree = strict_object(body, "the body")
    except Usage as error:
        raise Refusal(400, str(error)) from error
    unknown = [key for key in tree if key not in _KEYS]
    if unknown:
        raise Refusal(400, f"the body has the unknown key {shown(unknown[0])}; known are {', '.join(_KEYS)}")
    token, verdict, reason = tree.get("request"), tree.get("verdict"), tree.get("reason", "")
    served = served_from_token(token) if isinstance(token, str) else None
    if not isinstance(token, str) or served is None:
        raise Refusal(400, f"request: read {shown(token)}, must be the whole x-shadow-request of a response")
    if verdict not in VERDICTS:
        raise Refusal(400, f"verdict: read {shown(verdict)}, must be {' or '.join(VERDICTS)}")
    return token, Feedback(
        request_partition=served.partition,
        request_id=served.request_id,
        decision_id=served.decision_id,
        is_routed=served.is_routed,
        cell=served.cell,
        verdict=verdict,
        reason=_reason(reason),
        given_us=now_us,
    )


def _reason(value: Any) -> str:
    if not isinstance(value, str):
        raise Refusal(400, f"reason: read {shown(value)}, must be a text")
    if len(value) > REASON_CHARACTERS_MAX:
        raise Refusal(400, f"reason: has {len(value):,} characters, must have at most {REASON_CHARACTERS_MAX}")
    if not all(character.isprintable() or character in "\r\n\t" for character in value):
        raise Refusal(400, "reason: has control characters, must be plain text")
    return value
