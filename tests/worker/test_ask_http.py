"""Questions of graders: bounded, collected later, and errors are sentences."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from aiohttp import web

from shadow.adapters.ask_http import AskPool
from shadow.records.grades import Ask
from tests.worker.builders import ServerThread, wait_until


def collect(pool: AskPool, count: int) -> dict[Any, tuple[bytes | None, str | None]]:
    results: dict[Any, tuple[bytes | None, str | None]] = {}

    def all_there() -> bool:
        results.update({token: (reply, error) for token, reply, error in pool.finished()})
        return len(results) == count

    wait_until(all_there, f"{count} results")
    return results


def test_replies_come_back_with_their_tokens() -> None:
    """
    Each question's reply carries its own token, whatever the order, and nothing is pending at the end.
    """

    async def score(got: web.Request) -> web.Response:
        return web.json_response({"score": (await got.json())["n"]})

    pool = AskPool()
    with ServerThread(score) as server:
        for n in range(50):
            pool.submit(Ask(f"{server.url}/score", {"n": n, "bad": "\ud800", "big": 10**30}, 5_000_000), ("token", n))
        results = collect(pool, 50)
    pool.close()

    assert {token: reply for token, (reply, _) in results.items()} == {
        ("token", n): b'{"score": %d}' % n for n in range(50)
    }
    assert pool.pending() == 0


def test_only_so_many_calls_are_under_way() -> None:
    """
    A service never sees more questions at once than the pool's concurrency.
    """
    inside = most = 0
    open_gate = threading.Event()

    async def slow(_: web.Request) -> web.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        while not open_gate.is_set():
            await asyncio.sleep(0.001)
        inside -= 1
        return web.Response(text="{}")

    pool = AskPool(concurrency=3)
    with ServerThread(slow) as server:
        for n in range(12):
            pool.submit(Ask(server.url, {}, 5_000_000), n)
        wait_until(lambda: inside == 3, "three calls inside")
        assert pool.pending() == 12
        open_gate.set()
        collect(pool, 12)
    pool.close()

    assert most == 3


def test_failures_are_sentences() -> None:
    """
    A bad status, a hang, a long reply, a bad address and a payload that is no JSON each end in one sentence.
    """

    async def handler(got: web.Request) -> web.Response:
        if got.path == "/hang":
            await asyncio.sleep(30)
        if got.path == "/long":
            return web.Response(text="x" * 200)
        return web.Response(status=503)

    pool = AskPool(reply_bytes_max=100)
    with ServerThread(handler) as server:
        pool.submit(Ask(f"{server.url}/status", {}, 5_000_000), "status")
        pool.submit(Ask(f"{server.url}/hang", {}, 100_000), "hang")
        pool.submit(Ask(f"{server.url}/long", {}, 5_000_000), "long")
        pool.submit(Ask("http://127.0.0.1:1/", {}, 5_000_000), "refused")
        pool.submit(Ask("no url", {}, 5_000_000), "url")
        pool.submit(Ask(server.url, {"x": float("nan")}, 5_000_000), "status too")
        pool.submit(Ask(server.url, {"x": object()}, 5_000_000), "payload")
        results = collect(pool, 7)
    pool.close()

    assert all(reply is None for reply, _ in results.values())
    errors = {token: error or "" for token, (_, error) in results.items()}
    assert errors["status"].endswith("answered with status 503")
    assert errors["hang"].endswith("did not answer within 0.1 s")
    assert errors["long"].endswith("answered with more than 100 bytes")
    assert "could not be asked" in errors["refused"] and "could not be asked" in errors["url"]
    assert "could not be asked" in errors["payload"]


@pytest.mark.parametrize("is_busy", [True, False])
def test_close_ends_the_thread_at_once(is_busy: bool) -> None:
    """
    Closing gives up what is under way; a second close and a late question change nothing.
    """
    is_asked = threading.Event()

    async def hang(_: web.Request) -> web.Response:
        is_asked.set()
        await asyncio.sleep(30)
        return web.Response()

    with ServerThread(hang) as server:
        pool = AskPool()
        if is_busy:
            pool.submit(Ask(server.url, {}, 60_000_000), 1)
            assert is_asked.wait(10)
        pool.close()
        pool.close()
        pool.submit(Ask(server.url, {}, 60_000_000), 2)

    assert "asks" not in [thread.name for thread in threading.enumerate()]
