"""An HTTP model does anything, and the Reply says what."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web

from shadow.adapters.model_http import HttpModel, base_url
from shadow.adapters.rewrite import Rewrite, rewrite_from_settings
from shadow.errors import Usage
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest
from shadow.usage import Price
from tests.worker.builders import http_server, raw_server, request

SECOND = 1_000_000


def call(url: str, asked: MirroredRequest | None = None, **options: Any) -> Awaitable[Reply]:
    async def once() -> Reply:
        async with HttpModel(url, **({"deadline_us": 5 * SECOND} | options)) as model:
            return await model.call(asked or request(), "candidate", "v42")

    return once()


def reply_to_raw(send: Callable[[asyncio.StreamWriter], Awaitable[None]], **options: Any) -> Reply:
    async def main() -> Reply:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await send(writer)

        async with raw_server(handler) as url:
            return await call(url, **options)

    return asyncio.run(main())


def reply_to(handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **options: Any) -> Reply:
    async def main() -> Reply:
        async with http_server(handler) as url:
            return await call(url, **options)

    return asyncio.run(main())


async def chat(_: web.Request) -> web.Response:
    usage = {"prompt_tokens": 1000, "completion_tokens": 500}
    return web.json_response({"choices": [], "usage": usage}, headers={"set-cookie": "a=b", "x-request-id": "7"})


def test_an_answer_comes_back_with_times_tokens_and_cost() -> None:
    """
    A good answer carries its status, allowed headers, body, times, tokens and integer cost.
    """
    reply = reply_to(chat, price=Price(prompt_micro=2_000_000, completion_micro=8_000_000))

    assert (reply.outcome, reply.status, reply.error) == ("answered", 200, None)
    assert 0 < reply.first_byte_us <= reply.duration_us
    assert reply.started_us > 1_700_000_000_000_000
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cost_micro) == (1000, 500, 6000)
    assert reply.headers == {"content-type": "application/json; charset=utf-8", "x-request-id": "7"}


def test_the_call_is_marked_rewritten_and_free_of_credentials() -> None:
    """
    The model sees the marks and the role's own fields, and no credential of the recorded request.
    """
    seen: dict[str, Any] = {}

    async def handler(got: web.Request) -> web.Response:
        seen.update({"headers": dict(got.headers), "path": got.raw_path, "json": await got.json()})
        return web.Response()

    rewrite = rewrite_from_settings(
        json={"$.model": "v42", "$.messages[0].content": "HI"},
        headers={"Authorization": "env:KEY"},
        path_prefix="/beta",
        environment={"KEY": "secret"},
    )
    recorded = request(
        headers={
            "content-type": "application/json",
            "authorization": "Bearer user",
            "Cookie": "a=b",
            "idempotency-key": "live",
            "x-shadow-role": "spoofed",
            "content-length": "3",
            "accept-encoding": "gzip",
        }
    )
    reply_to(handler, asked=recorded, rewrite=rewrite)

    assert seen["path"] == "/beta/v1/chat/completions?x=1"
    assert seen["json"]["model"] == "v42"
    assert seen["json"]["messages"] == [{"role": "user", "content": "HI"}]
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["authorization"] == "secret"
    assert headers["x-shadow"] == "1"
    assert headers["x-shadow-role"] == "candidate"
    assert headers["x-shadow-request-id"] == "request-1"
    assert headers["accept-encoding"] == "identity"
    assert headers["idempotency-key"] not in ("live", "")
    assert "cookie" not in headers


def test_a_server_error_is_the_models_failure() -> None:
    """
    A status of 500 or more is an error; a 4xx is an answer whose status a grader judges.
    """

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=503, text="no")

    async def refused(_: web.Request) -> web.Response:
        return web.Response(status=422, text="no")

    assert (reply_to(broken).outcome, reply_to(broken).status) == ("error", 503)
    assert (reply_to(refused).outcome, reply_to(refused).status) == ("answered", 422)


def test_a_redirect_is_not_followed() -> None:
    """
    A model cannot send the worker elsewhere.
    """
    calls = []

    async def elsewhere(got: web.Request) -> web.Response:
        calls.append(got.path)
        return web.Response(status=307, headers={"location": "/other"})

    assert reply_to(elsewhere).status == 307
    assert len(calls) == 1


def test_a_refused_connection_is_an_error() -> None:
    """
    Nobody listens at the address.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        reply = asyncio.run(call(f"http://127.0.0.1:{free.getsockname()[1]}"))

    assert (reply.outcome, reply.status, reply.first_byte_us) == ("error", 0, 0)
    assert reply.error is not None and reply.error.startswith("the model cannot be reached: ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00 garbage\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnope\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"",
    ],
)
def test_garbage_and_early_closes_are_errors(sent: bytes) -> None:
    """
    Whatever is not a complete HTTP answer is an error with a sentence, never an exception.
    """

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()

    reply = reply_to_raw(send)

    assert reply.outcome == "error"
    assert reply.error and "\n" not in reply.error


def test_a_reset_is_an_error() -> None:
    """
    The connection is reset in the middle of the body.
    """

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()

    assert reply_to_raw(send).outcome == "error"


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"])
def test_a_hang_is_a_timeout(sent: bytes) -> None:
    """
    The deadline bounds the whole call, before the head and within the body.
    """

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await asyncio.sleep(60)

    reply = reply_to_raw(send, deadline_us=100_000)

    assert reply.outcome == "timeout"
    assert reply.error == "no complete reply within 0.1 s"
    assert reply.duration_us >= 100_000


def test_a_body_is_read_only_up_to_the_cap() -> None:
    """
    An endless body ends the call at the cap, and none of it is kept.
    """
    sent = 0

    async def send(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    reply = reply_to_raw(send, body_bytes_max=100_000)

    assert (reply.outcome, reply.body) == ("too_large", b"")
    assert sent < 20 << 20


def test_a_body_of_exactly_the_cap_is_kept() -> None:
    """
    The cap itself is allowed; input 69.
    """

    async def exact(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1000)

    assert reply_to(exact, body_bytes_max=1000).body == b"x" * 1000
    assert reply_to(exact, body_bytes_max=999).outcome == "too_large"


def stream_of(events: int, usage: bool = True) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(got: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(got)
        for i in range(events):
            await response.write(b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % i)
        if usage:
            await response.write(b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\n')
        await response.write(b"data: [DONE]\n\n")
        return response

    return handler


def test_a_stream_is_read_to_its_end_with_its_tokens() -> None:
    """
    Server-sent events are kept as they came, and the last chunk's usage is counted.
    """
    reply = reply_to(stream_of(5))

    assert reply.outcome == "answered"
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 9)


def test_a_stream_over_the_cost_cap_is_cut_off() -> None:
    """
    A runaway stream ends at the cap and is a failure, at a cost just above the cap.
    """

    async def endless(got: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(got)
        while True:
            await response.write(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
            await asyncio.sleep(0)

    reply = reply_to(endless, price=Price(completion_micro=8_000_000), cost_max_micro=800)

    assert reply.outcome == "error"
    assert reply.error is not None and "more than the cap of 0.0008" in reply.error
    assert 800 < reply.cost_micro < 80_000


def test_an_answer_over_the_cost_cap_is_a_failure() -> None:
    """
    An answer that states more usage than the cap allows fails; one at the cap passes.
    """
    price = Price(prompt_micro=2_000_000, completion_micro=8_000_000)

    assert reply_to(chat, price=price, cost_max_micro=5999).outcome == "error"
    assert reply_to(chat, price=price, cost_max_micro=6000).outcome == "answered"


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "no-slash"},
        {"path": "/a b"},
        {"path": "/a\r\nx: y"},
        {"path": "@evil.example/"},
        {"method": "GET /"},
        {"headers": {"x-a": "b\r\nc: d"}},
        {"headers": {"x a": "b"}},
    ],
)
def test_a_request_that_cannot_be_sent_is_not_the_models_failure(changes: dict[str, Any]) -> None:
    """
    A recorded request that is no HTTP request is refused, so it lowers coverage and blames nobody.
    """
    calls = []

    async def handler(got: web.Request) -> web.Response:
        calls.append(got)
        return web.Response()

    reply = reply_to(handler, asked=request(**changes))

    assert reply.outcome == "refused"
    assert calls == []


def test_a_large_request_arrives_whole() -> None:
    """
    A body above aiohttp's limit for bytes is sent too.
    """

    async def size(got: web.Request) -> web.Response:
        return web.Response(text=f"{len(await got.read())} {got.content_length}")

    assert reply_to(size, asked=request(body=b"x" * (3 << 20))).body == b"3145728 3145728"


def test_a_compressed_answer_is_kept_as_it_came() -> None:
    """
    Nothing that a model sends is inflated in the worker; input 63.
    """

    async def bomb(_: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b\x08\x00junk", headers={"content-encoding": "gzip"})

    reply = reply_to(bomb)

    assert reply.body == b"\x1f\x8b\x08\x00junk"
    assert reply.headers["content-encoding"] == "gzip"


def test_the_environments_proxy_is_not_used() -> None:
    """
    HTTP_PROXY in the environment does not redirect shadow traffic.
    """
    before = os.environ.get("http_proxy")
    os.environ["http_proxy"] = "http://127.0.0.1:1"
    try:
        assert reply_to(chat).outcome == "answered"
    finally:
        if before is None:
            del os.environ["http_proxy"]
        else:
            os.environ["http_proxy"] = before


def test_foreign_bytes_in_a_header_become_text() -> None:
    """
    A header that is no UTF-8 can still be written to the log.
    """

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Request-Id: \xff\xfe\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    assert reply_to_raw(send).headers["x-request-id"].encode("utf-8")


@pytest.mark.parametrize(
    "url", ["candidate:8000", "ftp://a/", "http://", "http://user:pw@a/", "http://a/?q=1", "ht!tp"]
)
def test_a_bad_model_url_is_refused_in_one_sentence(url: str) -> None:
    """
    A URL that is none, or that carries credentials, is the user's to change.
    """
    with pytest.raises(Usage) as refusal:
        base_url(url)

    assert "model url" in str(refusal.value)
    assert "pw" not in str(refusal.value)


@pytest.mark.parametrize("path", ["$", "model", "$.", "$..a", "$.a[*]", "$[a]"])
def test_a_bad_rewrite_path_is_refused(path: str) -> None:
    """
    Only plain paths can be set.
    """
    with pytest.raises(Usage, match="must be a path such as"):
        rewrite_from_settings(json={path: 1}, environment={})


def test_a_missing_secret_is_named_at_the_start() -> None:
    """
    An `env:` value whose variable is not set is refused before the first call, and a set one is never printed.
    """
    with pytest.raises(Usage, match="the environment variable KEY is not set"):
        rewrite_from_settings(headers={"authorization": "env:KEY"}, environment={})

    assert "hush" not in repr(rewrite_from_settings(headers={"authorization": "env:K"}, environment={"K": "hush"}))


def test_a_rewrite_changes_only_what_is_there() -> None:
    """
    A body that is not JSON, or lacks the way to the field, is sent as it was recorded.
    """
    rewrite = rewrite_from_settings(json={"$.a.b": 1, "$['c'][1]": 2}, environment={})

    assert rewrite.body(b"not json") == b"not json"
    assert orjson.loads(rewrite.body(b'{"c":[0]}')) == {"c": [0]}
    assert orjson.loads(rewrite.body(b'{"a":{},"c":[0,0]}')) == {"a": {"b": 1}, "c": [0, 2]}
    assert Rewrite().body(b'{"a": 1}') == b'{"a": 1}'


def test_a_rewritten_secret_header_wins_over_a_recorded_one() -> None:
    """
    The role's header replaces the recorded one of the same name, whatever its case.
    """

    async def main() -> list[str]:
        seen: list[str] = []

        async def handler(got: web.Request) -> web.Response:
            seen.extend(got.headers.getall("x-tenant"))
            return web.Response()

        rewrite = rewrite_from_settings(headers={"X-Tenant": "shadow"}, environment={})
        async with http_server(handler) as url:
            await call(url, request(headers={"x-tenant": "live"}), rewrite=rewrite)
        return seen

    assert asyncio.run(main()) == ["shadow"]
