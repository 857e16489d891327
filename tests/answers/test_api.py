"""`POST /v1/answers`: what is taken, what is refused with which status, and that nothing else waits for it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from shadow.adapters.admin import BODY_BYTES_MAX, AdminServer
from shadow.api.answers import AnswersApi
from shadow.errors import Usage
from shadow.metrics import Metrics
from tests.answers.world import HOUR_US, Review, answered

JSON = {"content-type": "application/json"}


class Gate:
    """The admin port of a gate, without the gate."""

    def __init__(self, api: AnswersApi) -> None:
        self.server = AdminServer("127.0.0.1", 0, Metrics("gate"), lambda: (True, "ok"), api.routes())

    def call(
        self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] = JSON
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers))
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        finally:
            connection.close()

    def post(self, body: Any, headers: Mapping[str, str] = JSON) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, content = self.call("POST", "/v1/answers", raw, headers)
        return status, json.loads(content)


@contextmanager
def gate(review: Review | None, host: str = "127.0.0.1", token: str | None = None) -> Iterator[Gate]:
    """A port that serves the review's run; None: no run yet."""
    api = AnswersApi(host, token)
    port = Gate(api)
    try:
        if review is None:
            yield port
        else:
            with api.serving(review.log, lambda: review.plan, review.clock):
                yield port
    finally:
        port.server.stop()


def test_answers_are_taken_once() -> None:
    """
    202 with the counts; the same call again skips all, and the records are those of an import.
    """
    review = Review()
    asked, _ = review.questions()
    call = {"run": review.run, "answers": [answered(each) for each in asked[:3]]}
    with gate(review) as port:
        assert (202, {"run": review.run, "written": 3, "skipped": 0, "late": 0}) == port.post(call)
        assert (202, {"run": review.run, "written": 0, "skipped": 3, "late": 0}) == port.post(call)
    assert [each["position"] for each in asked[:3]] == [
        f"{each.request_partition}/{each.request_offset}" for each in review.answers()
    ]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "the body is not JSON"),
        (b"[1]", 400, "the body is a JSON list; an object is expected"),
        (b'{"run": NaN}', 400, "contains NaN, which is not JSON"),
        (b'{"run": "a", "run": "b"}', 400, "has the key 'run' twice"),
        (b'{"run": "a", "run2": 1}', 400, "has the unknown key 'run2'; known are run, answers, late"),
        (b'{"a": ' + b"[" * 100_000, 400, "is nested too deeply"),
        (b'{"run": 1, "answers": [1]}', 400, "run: read 1, must be the name of a run"),
        (b'{"run": "a", "answers": []}', 400, "answers: read [], must be a list of at least one answer"),
        (b'{"run": "a", "answers": {}}', 400, "answers: read {}, must be a list"),
        (b'{"run": "a", "answers": [1], "late": 1}', 400, "late: read 1, must be true or false"),
        (b'{"run": "another-1", "answers": [1]}', 404, "not 'another-1'"),
        (b" " * (BODY_BYTES_MAX + 1), 413, "larger than the 1,048,576 bytes"),
        (b'"\xff"', 400, "the body is not UTF-8"),
    ],
)
def test_a_wrong_body_is_one_sentence(body: bytes, status: int, sentence: str) -> None:
    """
    Whatever is sent, the reply is JSON with a sentence, and nothing is written.
    """
    review = Review((2, 2))
    with gate(review) as port:
        got, document = port.post(body)
    assert (status, True) == (got, sentence in document["error"]), document
    assert [] == review.answers()


def test_a_body_of_just_the_limit_is_read() -> None:
    """
    1 MiB is taken, sent whole or in chunks; one byte more is not, whatever the length said before.
    """
    review = Review((8, 8))
    asked, _ = review.questions()
    call = json.dumps({"run": review.run, "answers": [answered(asked[0])]}).encode()
    full = call + b" " * (BODY_BYTES_MAX - len(call))
    with gate(review) as port:
        assert 202 == port.post(full)[0]
        assert 202 == port.call("POST", "/v1/answers", iter([full[:1000], full[1000:]]))[0]
        status, _, content = port.call("POST", "/v1/answers", iter([full, b" "]))
    assert (413, True) == (status, b"larger than" in content)


def test_wrong_answers_are_all_named() -> None:
    """
    400 names each with its place; late ones are 409, and `late` takes them.
    """
    review = Review()
    asked, _ = review.questions()
    with gate(review) as port:
        wrong = {"run": review.run, "answers": [answered(asked[0]), 7, answered(asked[1], "")]}
        status, document = port.post(wrong)
        assert (400, "nothing was written") == (status, document["error"])
        assert [
            "answers[1]: is no JSON object; read 7",
            "answers[2]: answer: is empty; leave a request out that nobody answered",
        ] == document["problems"]
        review.clock.us += 7 * HOUR_US
        late = {"run": review.run, "answers": [answered(asked[0])]}
        assert 409 == port.post(late)[0]
        assert [] == review.answers()
        assert (202, 1) == (port.post({**late, "late": True})[0], len(review.answers()))


def test_other_content_is_refused() -> None:
    """
    415 for forms, text and compressed bodies, which other sites could make a browser send; 405 for GET.
    """
    with gate(Review((2, 2))) as port:
        for headers in (
            {},
            {"content-type": "text/plain"},
            {"content-type": "application/x-www-form-urlencoded"},
            {**JSON, "content-encoding": "gzip"},
        ):
            assert 415 == port.post(b"{}", headers)[0]
        assert 405 == port.call("GET", "/v1/answers")[0]


def test_without_a_token_the_loopback_only_is_served() -> None:
    """
    403 where the port is open to others, or is called by a name that was made to lead here.
    """
    with gate(Review((2, 2)), host="0.0.0.0") as port:
        status, document = port.post(b"{}")
        assert (403, True) == (status, "this port is on 0.0.0.0" in document["error"])
    with gate(Review((2, 2))) as port:
        for host in ("evil.example", "evil.example:9104", "[", ""):
            assert 403 == port.post(b"{}", {**JSON, "host": host})[0]
        for host in ("localhost", "127.0.0.1:1", "[::1]:9104"):
            assert 400 == port.post(b"{}", {**JSON, "host": host})[0]


def test_the_token_is_needed_wherever_there_is_one() -> None:
    """
    401 without it, or with another; with it other hosts are served too.
    """
    review = Review()
    asked, _ = review.questions()
    call = {"run": review.run, "answers": [answered(asked[0])]}
    with gate(review, host="0.0.0.0", token="s3cret") as port:
        for given in ({}, {"authorization": "Bearer s3cre"}, {"authorization": "Basic s3cret"}, {"authorization": "é"}):
            status, headers, content = port.call("POST", "/v1/answers", json.dumps(call).encode(), {**JSON, **given})
            assert (401, "Bearer") == (status, headers["www-authenticate"])
            assert b"s3cret" not in content
        assert 202 == port.post(call, {**JSON, "authorization": "bearer s3cret", "host": "gate:9104"})[0]


def test_a_gate_without_a_run_says_so() -> None:
    """
    503 with Retry-After before the run is known and after it has ended; 404 where the run asks no people.
    """
    review = Review((2, 2))
    call = json.dumps({"run": review.run, "answers": [{}]}).encode()
    with gate(None) as port:
        status, headers, _ = port.call("POST", "/v1/answers", call)
        assert (503, "5") == (status, headers["retry-after"])
    api = AnswersApi("127.0.0.1", None)
    port = Gate(api)
    try:

        def nobody() -> Any:
            raise Usage("no rule says against: human")

        with api.serving(review.log, nobody, review.clock):
            assert (404, "no rule says against: human") == (lambda s, d: (s, d["error"]))(*port.post(call))
        assert 503 == port.post(call)[0]
    finally:
        port.server.stop()


def test_while_the_log_is_away_probes_are_answered_and_clients_come_again() -> None:
    """
    503 with Retry-After; the same call succeeds once the log is back, and each answer stands there once.
    """
    review = Review()
    asked, _ = review.questions()
    call = json.dumps({"run": review.run, "answers": [answered(asked[0])]}).encode()
    review.log.stop()
    with gate(review) as port:
        status, headers, content = port.call("POST", "/v1/answers", call)
        assert (503, "5", True) == (status, headers["retry-after"], b"the log in memory is stopped" in content)
        assert 200 == port.call("GET", "/livez")[0]
        review.log.start()
        assert 202 == port.call("POST", "/v1/answers", call)[0]
    assert 1 == len(review.answers())


def test_calls_that_wait_are_bounded() -> None:
    """
    Behind a call that takes its time eight may wait; one more is 429, and probes are answered all the while.
    """
    review = Review()
    asked, _ = review.questions()
    call = json.dumps({"run": review.run, "answers": [answered(asked[0])]}).encode()
    statuses: list[int] = []
    with gate(review) as port:
        assert 202 == port.call("POST", "/v1/answers", call)[0]

        def one() -> None:
            statuses.append(port.call("POST", "/v1/answers", call)[0])

        with review.log.changed:  # whoever asks the log waits here
            threads = [threading.Thread(target=one) for _ in range(12)]
            for thread in threads:
                thread.start()
            while statuses.count(429) < 3:
                assert 200 == port.call("GET", "/livez")[0]
        for thread in threads:
            thread.join(10)
    assert (9, 3) == (statuses.count(202), statuses.count(429))
    assert 1 == len(review.answers())
