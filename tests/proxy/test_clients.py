"""The clients that people use: curl, openai, aiohttp, requests, fetch, hey and wrk, against a real aiohttp server."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
import requests
from aiohttp import web

from tests.proxy.kit import BOUND_S, Loop, Running, running, wait_for
from tests.services import ServiceMissing, unavailable
from tests.services.hey import hey_program


def is_absent(program: str) -> bool:
    """Whether a test may be left out because a client is not installed; with CI set it runs, and fails."""
    return shutil.which(program) is None and "CI" not in os.environ


WORDS = ["Shadow", " answers", " where", " nobody", " looks", ".", " Grüße", " 👋"]


def _chunk(content: str | None, finish: str | None) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


async def _chat(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        )
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for word in WORDS:
        await response.write(_chunk(word, None))
    await response.write(_chunk(None, "stop"))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _echo(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.read(), content_type="application/octet-stream")


async def _gzip(request: web.Request) -> web.StreamResponse:
    response = web.Response(text="abc" * 10_000)
    response.enable_compression(web.ContentCoding.gzip)
    return response


@asynccontextmanager
async def _serving() -> AsyncIterator[int]:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_route("*", "/echo", _echo)
    app.router.add_get("/gzip", _gzip)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    yield site._server.sockets[0].getsockname()[1]
    await runner.cleanup()


@pytest.fixture
def proxy() -> Iterator[Running]:
    """A proxy in front of an aiohttp server."""
    loop = Loop()
    serving = _serving()

    async def enter() -> int:
        return await serving.__aenter__()

    async def leave() -> Any:
        return await serving.__aexit__(None, None, None)

    port = loop.call(enter())
    try:
        with running(port) as alive:
            yield alive
    finally:
        loop.call(leave())
        loop.close()


def test_openai_sync(proxy):
    """A chat completion arrives, and its copy is the answer byte for byte."""
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-secret", max_retries=0) as client:
        for _ in range(3):
            raw = client.chat.completions.with_raw_response.create(
                model="m", messages=[{"role": "user", "content": "hi"}], extra_headers={"x-session-id": "s-1"}
            )
            assert raw.parse().choices[0].message.content == "".join(WORDS)
    copies = proxy.copies(3)
    assert copies[0].live.body == raw.content
    assert copies[0].live.finish_reason == "stop"
    assert {copy.key for copy in copies} == {"s-1"}
    assert b"sk-secret" not in b"".join(value for _, _, _, value, _ in proxy.writer.records)


def test_openai_stream(proxy):
    """A streamed completion arrives word by word, and the copy holds all events."""
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk", max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        words = [event.choices[0].delta.content for event in stream]
    assert words == [*WORDS, None]
    live = proxy.copy().live
    assert live.is_stream
    assert live.finish_reason == "stop"
    assert live.body.endswith(b"data: [DONE]\n\n")
    assert live.body.count(b"data: ") == len(WORDS) + 2


def test_openai_async_and_many_at_once(proxy):
    """Fifty streams at once arrive whole."""

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk", max_retries=0) as client:

            async def ask(number: int) -> str:
                stream = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": str(number)}], stream=True
                )
                return "".join([event.choices[0].delta.content or "" async for event in stream])

            return await asyncio.gather(*(ask(number) for number in range(50)))

    assert asyncio.run(ask_all()) == ["".join(WORDS)] * 50
    assert proxy.settled(50) == (50, {})


def test_an_openai_client_that_stops_reading_is_an_abort(proxy):
    """Leaving a stream early does not disturb the next call."""
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk", max_retries=0) as client:
        with client.chat.completions.create(model="m", messages=[], stream=True) as stream:
            next(iter(stream))
        assert client.chat.completions.create(model="m", messages=[]).choices[0].finish_reason == "stop"


def test_aiohttp(proxy):
    """Chunked uploads and large bodies come back the same."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d," % number * 100

    async def talk() -> None:
        async with aiohttp.ClientSession(proxy.url) as session:
            async with session.post("/echo", data=io.BytesIO(b"x" * 3_000_000)) as answer:
                assert await answer.read() == b"x" * 3_000_000
            async with session.post("/echo", data=pieces()) as answer:
                assert await answer.read() == b"".join([b"%d," % number * 100 for number in range(100)])
            async with session.head("/gzip") as answer:
                assert answer.status == 200
            async with session.get("/gzip") as answer:
                assert await answer.text() == "abc" * 10_000
            async with session.put("/echo", data=b"y", expect100=True) as answer:
                assert await answer.read() == b"y"

    asyncio.run(talk())
    assert proxy.settled(5) == (4, {"too_large": 1})
    copy = next(copy for copy in proxy.copies(4) if copy.path == "/gzip" and copy.method == "GET")
    assert copy.live.headers["content-encoding"] == "gzip"
    assert copy.live.body[:2] == b"\x1f\x8b"


def test_requests(proxy):
    """A session reuses its connection and reads compressed answers."""
    with requests.Session() as session:
        for number in range(5):
            assert session.post(f"{proxy.url}/echo", data=str(number)).text == str(number)
        assert session.get(f"{proxy.url}/gzip").text == "abc" * 10_000
    assert proxy.snapshot().counters.connections == 1


@pytest.mark.skipif(is_absent("curl"), reason="curl is not installed")
def test_curl(proxy, tmp_path):
    """curl uploads with Expect: 100-continue, asks for HEAD, speaks HTTP/1.0 and sends chunks."""
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * 8000)

    def curl(*arguments: str) -> bytes:
        done = subprocess.run(
            ["curl", "-sS", "--fail", "--max-time", "10", *arguments], capture_output=True, timeout=BOUND_S * 2
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    url = f"{proxy.url}/echo"
    expect = ("-H", "Expect: 100-continue")
    assert curl("--data-binary", f"@{upload}", *expect, url) == upload.read_bytes()
    assert curl("-T", str(upload), "-H", "Transfer-Encoding: chunked", url) == upload.read_bytes()
    assert curl("--http1.0", "-d", "abc", url) == b"abc"
    assert curl("--head", url).startswith(b"HTTP/1.1 200 OK\r\n")
    assert curl("-d", "a", url, "--next", "-sS", "-d", "b", url) == b"ab"


@pytest.mark.skipif(is_absent("node"), reason="Node is not installed")
def test_node_fetch(proxy):
    """Node's fetch (llhttp) reads answers and streams."""
    script = """
      const url = process.argv[1];
      const body = JSON.stringify({stream: true, messages: []});
      const headers = {'content-type': 'application/json'};
      let text = '';
      for (let i = 0; i < 3; i++) {
        const answer = await fetch(url + '/v1/chat/completions', {method: 'POST', body, headers});
        for await (const piece of answer.body) text += Buffer.from(piece).toString();
      }
      const echo = await (await fetch(url + '/echo', {method: 'POST', body: 'x'.repeat(100000)})).text();
      console.log(JSON.stringify([text.split('data: ').length - 1, echo.length]));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, proxy.url], capture_output=True, timeout=BOUND_S * 3, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [3 * (len(WORDS) + 2), 100_000]


def test_hey(proxy):
    """Two hundred requests over eight connections are answered, and each copy holds what hey got."""
    try:
        hey = str(hey_program())
    except ServiceMissing as missing:
        unavailable("hey", str(missing), os.environ)
    command = [hey, "-n", "200", "-c", "8", "-m", "POST", "-d", "body of hey", f"{proxy.url}/echo"]
    done = subprocess.run(command, capture_output=True, timeout=BOUND_S * 3, text=True)
    assert "[200]\t200 responses" in done.stdout, done.stdout + done.stderr
    assert "Error distribution" not in done.stdout
    assert (200, {}) == proxy.settled(200)
    copies = proxy.copies(200)
    assert {(b"body of hey", b"body of hey")} == {(copy.body, copy.live.body) for copy in copies}


@pytest.mark.skipif(is_absent("wrk"), reason="wrk is not installed")
def test_wrk(proxy, tmp_path):
    """A second at full load: no error, and every request that wrk had answered is accounted for."""
    script = tmp_path / "post.lua"
    script.write_text('wrk.method = "POST"\nwrk.body = "body of wrk"\n')
    command = ["wrk", "-t1", "-c8", "-d1s", "-s", str(script), f"{proxy.url}/echo"]
    done = subprocess.run(command, capture_output=True, timeout=BOUND_S * 3, text=True)
    assert 0 == done.returncode, done.stderr
    assert "Non-2xx" not in done.stdout
    assert "Socket errors" not in done.stdout
    answered = int(re.search(r"(\d+) requests in", done.stdout)[1])
    # Up to eight were under way as wrk left.
    seen = wait_for(lambda: proxy.snapshot().held_bytes == 0 and proxy.totals()[1])
    assert answered <= seen <= answered + 8
    sequence, _, dropped = proxy.totals()
    assert seen == sequence + sum(dropped.values())
    assert {(b"body of wrk", b"body of wrk")} == {(copy.body, copy.live.body) for copy in proxy.writer.copies()}
