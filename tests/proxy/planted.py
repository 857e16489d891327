"""Secrets in every place of an exchange: a server that plants those of the answers, and requests with the others."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from hashlib import blake2b

from tests.proxy.kit import Connection, connect, get, ok, post

REDACT = {"headers": ["x-tenant"], "json": ["$.user", "$.messages[*].secret", "$..token", "$.choices[*].delta.secret"]}
IN_BODY, IN_ANSWER, IN_TENANT, IN_ID = "allowed-in-body", "allowed-in-answer", "allowed-in-tenant", "allowed-in-id"
"""What may be recorded, in the four places where it may."""
ALLOWED = (IN_BODY, IN_ANSWER, IN_TENANT, IN_ID)
JSON = b"Content-Type: application/json"


class Planted(dict[str, str]):
    """Secrets by the place that they are planted in; each is made when its place is first named."""

    def __missing__(self, place: str) -> str:
        digest = blake2b(place.encode(), digest_size=16).hexdigest()
        self[place] = secret = f"sk-{digest[:16]}+/{digest[16:]}"
        return secret


def production(planted: Planted, connection: Connection) -> None:
    """Serve one connection: answers with secrets in their own places."""
    while True:
        line, _, _ = connection.message()
        connection.send(_answer(planted, line.split(" ")[1].partition("?")[0]))


def _answer(planted: Planted, path: str) -> bytes:
    fields = [
        JSON,
        f"Set-Cookie: id={planted['set-cookie']}".encode(),
        f"X-Internal-Token: {planted['answer header']}".encode(),
    ]
    if path == "/v1/stream":
        return _stream(planted, fields)
    if path == "/v1/broken-stream":
        line = f'data: {{"choices":[{{"delta":{{"secret":"{planted["broken data line"]}"}}}}]\n\n'.encode()
        return ok(line, b"Content-Type: text/event-stream")
    if path == "/v1/broken-answer":
        return ok(f'{{"user":"{planted["broken answer"]}"'.encode(), *fields)
    if path == "/v1/failing":
        body = json.dumps({"user": planted["answer of an error"]}).encode()
        return ok(body, *fields).replace(b"200 OK", b"500 Oh", 1)
    document = {"user": planted["answer JSON"], "choices": [{"text": IN_ANSWER, "token": planted["answer JSON deep"]}]}
    return ok(json.dumps(document).encode(), *fields)


def _stream(planted: Planted, fields: list[bytes]) -> bytes:
    events = b"".join(
        b"data: %b\n\n"
        % json.dumps({"choices": [{"delta": {"secret": planted["data line"], "text": IN_ANSWER}}]}).encode()
        for _ in range(3)
    )
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", *fields[1:]])
    trailer = f"X-Sum: {planted['answer trailer']}".encode()
    return b"%b\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (head, len(events), events, trailer)


def requests(planted: Planted) -> Iterator[tuple[bytes, int]]:
    """Each request, and the status that its client gets."""
    document = {
        "text": IN_BODY,
        "user": planted["JSON"],
        "messages": [{"secret": planted["JSON in an array"]}, {"a": [{"token": {"x": planted["JSON nested"]}}]}],
    }
    body = json.dumps(document).encode()
    kind = "Content-Type: application/json"
    fields = [
        f"{name}: {planted[name]}"
        for name in ("Cookie", "X-Api-Key", "X-Session-Secret", "X-Forwarded-For", "X-Forwarded-User", "Forwarded")
    ]
    fields += [f"Authorization: Bearer {planted['authorization']}", f"Proxy-Authorization: {planted['proxy']}"]
    named = f"api%5Fkey={planted['query name that is encoded']}"
    query = "&".join(f"{name}={planted['query ' + name]}" for name in ("api_key", "ACCESS_TOKEN", "token"))
    allowed = [f"X-Tenant: {IN_TENANT}", f"X-Request-Id: {IN_ID}"]
    for path in ("/v1/chat", "/v1/stream", "/v1/broken-answer", "/v1/broken-stream"):
        yield post(body, f"{path}?{query}&{named}&x=1", kind, *allowed, *fields), 200
    yield post(body, "/v1/failing", kind, *fields), 500
    # Copies that cannot be masked, or are not wanted.
    yield post(f'{{"user":"{planted["broken JSON"]}'.encode(), "/v1/chat", kind), 200
    packed = gzip.compress(json.dumps({"user": planted["compressed JSON"]}).encode())
    yield post(packed, "/v1/chat", kind, "Content-Encoding: gzip"), 200
    yield post(json.dumps({"text": planted["path that is not copied"]}).encode(), "/private", kind), 200
    yield get(f"/v1/chat?x={planted['method that is not copied']}"), 200
    yield _with_trailer(planted["trailer"]), 200
    # Refused before they are live requests.
    yield post(b"{}", f"http://u:{planted['userinfo']}@a/v1/chat", kind), 400
    yield post(b"{}", "/v1/chat", f"Authorization: {planted['refused']}", "Transfer-Encoding: chunked"), 400


def _with_trailer(secret: str) -> bytes:
    head = b"POST /v1/chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"2\r\n{{}}\r\n0\r\nX-Sum: {secret}\r\n\r\n".encode()


def send(planted: Planted, port: int) -> int:
    """Send every request; returns how many the proxy has served."""
    served = 0
    for request, expected in requests(planted):
        with connect(port) as client:
            client.send(request)
            line, _, _ = client.message()
        assert expected == int(line.split(" ")[1]), (request, line)
        served += expected != 400
    return served
