"""`POST /v1/feedback`: what is taken, what is refused with which status, and what then stands in the log."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from shadow.adapters.admin import AdminServer
from shadow.adapters.avro import decode
from shadow.adapters.memory_log import MemoryLog
from shadow.api.feedback import BODY_BYTES_MAX, FeedbackApi
from shadow.metrics import Metrics
from shadow.records.answers import Feedback
from shadow.records.votes import cell_of, token_of
from tests.comparator.world import Clock

JSON = {"content-type": "application/json"}
TOPIC = "shadow-answers"
ID = "0198f2c0-0000-7000-8000-000000000001"
DECISION = "5d1f2b3a-7c7e-5a55-9c8b-0f5a3c1d2e4f"
TOKEN = token_of(1, ID, "session-7", DECISION, is_routed=True)


class Gate:
    """The admin port of a gate, without the gate, over a log in memory with two partitions."""

    def __init__(self, host: str, token: str | None) -> None:
        self.clock, self.metrics = Clock(), Metrics("gate")
        self.log = MemoryLog(self.clock.now_us)
        self.log.admin().create_topics({TOPIC: 2}, {})
        self.api = FeedbackApi(host, token, self.metrics, self.clock)
        self.server = AdminServer("127.0.0.1", 0, self.metrics, lambda: (True, "ok"), self.api.routes())

    def post(self, body: Any, headers: Mapping[str, str] = JSON) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request("POST", "/v1/feedback", raw, dict(headers))
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def votes(self) -> list[Any]:
        """(partition, headers, record) of everything in the topic."""
        admin = self.log.admin()
        found = []
        for partition, (begin, end) in enumerate(admin.ends(TOPIC)):
            for record in admin.read_at(TOPIC, partition, list(range(begin, end))):
                found.append((record.partition, dict(record.headers), decode(record.value)))
        return found


@contextmanager
def gate(*, host: str = "127.0.0.1", token: str | None = None, has_run: bool = True) -> Iterator[Gate]:
    port = Gate(host, token)
    try:
        if has_run:
            with port.api.serving(port.log, TOPIC, 2):
                yield port
        else:
            yield port
    finally:
        port.server.stop()


def test_vote_stands_in_the_partition_of_its_request() -> None:
    """
    202 once it is written, with all that the token says, and without the name of a run.
    """
    with gate() as port:
        port.clock.us = 7_000_000
        body = {"request": TOKEN, "verdict": "negative", "reason": "the link is dead"}
        assert (202, {"request": TOKEN, "verdict": "negative"}) == port.post(body)
        assert 202 == port.post({"request": f"0-{ID}", "verdict": "positive"})[0]
        counted = [port.metrics.value("shadow_feedback_total", verdict=each) for each in ("negative", "positive")]
    vote = Feedback(1, ID, DECISION, True, cell_of("session-7"), "negative", "the link is dead", 7_000_000)
    plain = Feedback(0, ID, None, False, 0, "positive", "", 7_000_000)
    assert [(0, {}, plain), (1, {}, vote)] == port.votes()
    assert [1, 1] == counted


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "the body is not JSON"),
        (b"[1]", 400, "the body is a JSON list; an object is expected"),
        ({}, 400, "request: read None, must be the whole x-shadow-request of a response"),
        ({"request": ["a"], "verdict": "negative"}, 400, "request: read ['a'], must be"),
        ({"request": TOKEN + "0", "verdict": "negative"}, 400, "request: read '1-0198"),
        ({"request": f"2-{ID}", "verdict": "negative"}, 400, "request: read partition 2, and the topic has 2"),
        ({"request": TOKEN, "verdict": "bad"}, 400, "verdict: read 'bad', must be negative or positive"),
        ({"request": TOKEN, "verdict": ["negative"]}, 400, "verdict: read ['negative'], must be"),
        ({"request": TOKEN, "verdict": "negative", "reason": 1}, 400, "reason: read 1, must be a text"),
        ({"request": TOKEN, "verdict": "negative", "reason": "a" * 501}, 400, "reason: has 501 characters"),
        ({"request": TOKEN, "verdict": "negative", "reason": "a\x00"}, 400, "reason: has control characters"),
        ({"request": TOKEN, "verdict": "negative", "user": "x"}, 400, "unknown key 'user'; known are request"),
        (b" " * (BODY_BYTES_MAX + 1), 413, "larger than the 65,536 bytes"),
    ],
)
def test_a_wrong_body_is_one_sentence(body: Any, status: int, sentence: str) -> None:
    """
    Whatever is sent, the reply is JSON with a sentence, and nothing is written or counted.
    """
    with gate() as port:
        got, document = port.post(body)
        counted = port.metrics.value("shadow_feedback_total", verdict="negative")
    assert (status, True) == (got, sentence in document["error"]), document
    assert ([], 0) == (port.votes(), counted)


def test_votes_need_the_token_or_the_loopback() -> None:
    """
    401 without the configured token; 403 on another address without one; 415 for a form.
    """
    body = {"request": TOKEN, "verdict": "negative"}
    with gate(token="secret") as port:
        assert 401 == port.post(body)[0]
        assert 202 == port.post(body, {**JSON, "authorization": "Bearer secret"})[0]
    with gate(host="0.0.0.0") as port:
        assert 403 == port.post(body)[0]
    with gate() as port:
        assert 415 == port.post(b"verdict=negative", {"content-type": "application/x-www-form-urlencoded"})[0]


def test_without_a_run_votes_come_again() -> None:
    """
    A gate that has no run says so, and when to come again.
    """
    with gate(has_run=False) as port:
        status, document = port.post({"request": TOKEN, "verdict": "negative"})
    assert (503, True) == (status, "no run at the moment" in document["error"])
