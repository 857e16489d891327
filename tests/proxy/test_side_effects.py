"""P14: shadow work has no side effects: the candidate sees only what is listed, marked, and without credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.flow.harness import wait_until
from tests.proxy.kit import Connection, Upstream, connect, echo
from tests.proxy.stack import Stack
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

SECRETS = (b"Authorization: Bearer live-token", b"Cookie: session=live-cookie", b"X-Api-Key: live-key")
ASKED = (
    (b"POST", b"/v1/chat", True),
    (b"GET", b"/v1/chat", False),
    (b"PUT", b"/v1/chat", False),
    (b"DELETE", b"/v1/files/1", False),
    (b"POST", b"/admin/reset", False),
    (b"POST", b"/v1/../admin/reset", False),
    (b"POST", b"/v1/%2e%2e/admin/reset", False),
    (b"POST", b"/v1/complete?api_key=live-key", True),
)
"""Method and target of each live request, and whether its copy may reach the candidate."""


def test_p14_a_recording_candidate_sees_no_more_than_it_may(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    Writes, other paths and ways around the list stay with production; what comes is marked, and carries no credentials.
    """
    seen: list[tuple[str, dict[str, str], bytes]] = []

    def record(connection: Connection) -> None:
        while True:
            message = connection.message()
            seen.append(message)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with Upstream(echo) as production, Upstream(record) as candidate:
        stack = Stack(
            tmp_path,
            kafka.bootstrap,
            redis_server.url,
            production=production.port,
            candidate=candidate.port,
            change=_posts,
        )
        with stack:
            stack.begin()
            stack.start("proxy", "worker")
            stack.wait_ready(["proxy", "worker"])
            stack.wait_for_kafka()
            # Copies of the first requests are lost until the proxy knows the topic; this one shows that it does.
            wait_until(lambda: _warm(stack) and any(b"warm" in body for _, _, body in seen), "a first copy", 60.0)
            for number, (method, target, _) in enumerate(ASKED):
                _send(stack, method, target, b'{"number": %d}' % number)
            _send(stack, b"POST", b"/v1/chat", b'{"last": true}')
            wait_until(lambda: any(b"last" in body for _, _, body in seen), "the last copy", 60.0)
    came = [entry for entry in seen if b"number" in entry[2]]
    listed = {b'{"number": %d}' % number for number, (_, _, is_listed) in enumerate(ASKED) if is_listed}
    assert listed == {body for _, _, body in came}
    assert all(production.received.count(b'{"number": %d}' % number) == 1 for number in range(len(ASKED)))
    for line, headers, _ in seen:
        assert line.startswith("POST /v1/")
        assert ("1", "candidate") == (headers["x-shadow"], headers["x-shadow-role"])
        assert headers["x-shadow-request-id"]
        assert not {"authorization", "cookie", "x-api-key"} & set(headers)
    assert b"live-" not in candidate.received


def _posts(tree: dict[str, Any]) -> None:
    assert (["POST"], ["/v1/*"]) == (tree["proxy"]["mirror"]["methods"], tree["proxy"]["mirror"]["paths"])


def _warm(stack: Stack) -> bool:
    _send(stack, b"POST", b"/v1/chat", b'{"warm": true}')
    return True


def _send(stack: Stack, method: bytes, target: bytes, body: bytes) -> None:
    head = b"%b %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (
        method,
        target,
        len(body),
    )
    with connect(stack.port) as client:
        client.send(head + b"".join(secret + b"\r\n" for secret in SECRETS) + b"\r\n" + body)
        assert "HTTP/1.1 200 OK" == client.message()[0]
