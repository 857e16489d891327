"""The admin port of a process: /metrics, /livez and /readyz, apart from all traffic.

It runs in a thread with a loop of its own, so that a busy process still answers its probes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Protocol

import uvloop
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from shadow.errors import Usage

log = logging.getLogger("shadow.admin")

BODY_BYTES_MAX = 1 << 20
"""Largest body of a request to a route."""
START_S = 10.0
STOP_S = 2.0


class HasText(Protocol):
    """Metrics, as a page of Prometheus' text format."""

    def text(self) -> bytes: ...


class AdminServer:
    """Serves a process's metrics and probes until it is stopped.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        metrics: Served as /metrics.
        readiness: Says whether the process can do its work now, and why not in one line. Called on the
            server's thread.
        routes: More routes of this process, of any method, served beside the three. Their handlers must not block,
            and must refuse who may not call them: metrics and probes are for everybody who reaches the port.

    Raises:
        Usage: If the address is not to be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: HasText,
        readiness: Callable[[], tuple[bool, str]],
        routes: Iterable[web.RouteDef] = (),
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._loop = uvloop.new_event_loop()
        self._runner = self._runner_of(routes)
        self._thread = threading.Thread(target=self._run, name="admin", daemon=True)
        self._started: Future[int] = Future()
        self._host = host
        self._wanted_port = port
        self._thread.start()
        self.port = self._started.result(START_S)

    def stop(self) -> None:
        """Close the port and end the thread; a second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_S + 1.0)

    def _runner_of(self, routes: Iterable[web.RouteDef]) -> web.AppRunner:
        # One byte more than is allowed: versions of aiohttp differ in whether the limit itself is refused.
        app = web.Application(client_max_size=BODY_BYTES_MAX + 1)
        app.add_routes(
            [
                web.get("/metrics", self._serve_metrics),
                web.get("/livez", self._serve_livez),
                web.get("/readyz", self._serve_readyz),
                *routes,
            ]
        )
        return web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._start())
        except OSError as error:
            self._loop.run_until_complete(self._runner.cleanup())
            self._loop.close()
            self._started.set_exception(Usage(_sentence(self._host, self._wanted_port, error)))
            return
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._runner.cleanup())
        finally:
            self._loop.close()

    async def _start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._wanted_port)
        await site.start()
        self._started.set_result(self._runner.addresses[0][1])

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _serve_livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _serve_readyz(self, request: web.Request) -> web.Response:
        is_ready, reason = self._readiness()
        line = "ok" if is_ready else " ".join(reason.split()) or "not ready"
        return web.Response(status=200 if is_ready else 503, text=f"{line}\n")


def _sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"admin port {host}:{port} is already in use; choose another, or 0 for a free one"
    if error.errno == errno.EACCES:
        return f"admin port {host}:{port} may not be opened by this user; choose one above 1023, or 0 for a free one"
    return f"admin port {host}:{port} cannot be opened: {error.strerror or error}"
