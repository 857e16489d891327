"""A receiver of webhooks: a real HTTPS server on the loopback that answers as it is told to."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import trustme
from aiohttp import web

HANG_S = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found


Answer = Callable[[web.Request, Received], Awaitable[web.StreamResponse]]


def status(number: int, **headers: str) -> Answer:
    """Answers at once with a status."""

    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        return web.Response(status=number, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


async def hang(request: web.Request, received: Received) -> web.StreamResponse:
    """Answers nothing."""
    await asyncio.sleep(HANG_S)
    return web.Response()


async def drip(request: web.Request, received: Received) -> web.StreamResponse:
    """Answers 200, and then a body without end."""
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(HANG_S / 1000)
    except ConnectionError:
        pass  # whoever asked has left, as it should
    return response


async def crash(request: web.Request, received: Received) -> web.StreamResponse:
    """Closes the connection without an answer, as a process that dies does."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Receiver:
    """A context manager; `answer` may be replaced while it runs.

    Args:
        folder: Where the certificate's authority goes.
        is_plain: Plain HTTP.
        names: What the certificate is for.
        port: 0 takes a free one.
    """

    def __init__(
        self, folder: Path, *, is_plain: bool = False, names: tuple[str, ...] = ("127.0.0.1",), port: int = 0
    ) -> None:
        self.answer: Answer = status(204)
        self.got: list[Received] = []
        self.port = port
        self.ca = str(folder / "ca.pem")
        self._tls: ssl.SSLContext | None = None
        if not is_plain:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self.ca)
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(*names).configure_cert(self._tls)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        return [each.event_id for each in self.got]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers, await request.read())
        self.got.append(received)
        return await self.answer(request, received)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls)
            await site.start()
            self.port = runner.addresses[0][1]

        async def end() -> None:
            handling = asyncio.all_tasks() - {asyncio.current_task()}
            for task in handling:
                task.cancel()
            await asyncio.gather(*handling, return_exceptions=True)
            await runner.cleanup()

        self._loop.run_until_complete(start())
        self._loop.call_soon(self._ready.set)  # only inside of run_forever a stop stops it
        self._loop.run_forever()
        self._loop.run_until_complete(end())
        self._loop.close()
