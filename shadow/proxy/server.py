"""The proxy process: listen, serve, watch the time, drain."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import uvloop

from shadow import heap
from shadow.ports import LogWriter
from shadow.proxy.candidates import Candidates
from shadow.proxy.config import Endpoint, ProxySettings, Timeouts
from shadow.proxy.copies import Served
from shadow.proxy.counters import ProxyCounters, Snapshot
from shadow.proxy.exchange import Context
from shadow.proxy.http1 import ClientConnection
from shadow.proxy.mirror import Encode, Mirror, Partitions
from shadow.proxy.pool import UpstreamPool
from shadow.proxy.redact import Redactor
from shadow.proxy.routing import Routing

_log = logging.getLogger("shadow.proxy")

_SWEEP_S_MIN = 0.02
_SWEEP_S_MAX = 0.5
_BACKLOG = 1024
_SWITCH_S = 0.001
_STALL_S = 0.05


class Proxy:
    """One proxy in front of one upstream. Start it in a running event loop, and drain it once.

    Args:
        writer: An idempotent producer; used by one thread, and left open: closing it is the caller's.
        encode: Bytes of a `MirroredRequest` or a `Report`.
        partitions: Number of partitions of the requests topic, None while it is unknown. Asked on the event
            loop until it is known, so it must return at once.
        counters: Given where someone exports them.
        routing: The route in force, kept up to date by someone else; None: production serves everything.

    Raises:
        ValueError: If a JSON path of the redaction cannot be read.
    """

    def __init__(
        self,
        settings: ProxySettings,
        *,
        writer: LogWriter,
        encode: Encode,
        partitions: Partitions,
        counters: ProxyCounters | None = None,
        routing: Routing | None = None,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._encode = encode
        self._partitions = partitions
        self._counters = counters or ProxyCounters()
        self._routing = routing or Routing()
        self._redactor = Redactor(settings.redaction)
        self._clients: set[ClientConnection] = set()
        self._server: asyncio.Server | None = None
        self._context: Context | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_s = _sweep_s(settings)
        self._swept_s = 0.0
        self._is_on = True

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._server is None:
            raise RuntimeError("The proxy was not started.")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen. Neither the log nor the upstream need be there.

        Raises:
            OSError: If the address cannot be listened on.
        """
        settings, loop = self._settings, asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._new_connection,
            settings.listen_host,
            settings.listen_port,
            backlog=_BACKLOG,
            reuse_port=settings.shares_port or None,
            ssl=settings.listen_tls,
            start_serving=False,
        )
        self._context = self._new_context()
        self._context.mirror.start()
        self._swept_s = time.monotonic()
        self._sweeper = loop.call_later(self._sweep_s, self._sweep)
        await self._server.start_serving()

    def _new_connection(self) -> ClientConnection:
        return ClientConnection(self._started(), self._clients)

    def _new_context(self) -> Context:
        settings = self._settings
        process = settings.process or f"{socket.gethostname()}:{self.port}"
        served = Served(
            settings.version,
            settings.role,
            process,
            time.time_ns() // 1000,
            settings.mirror.sample,
            dict(settings.mirror.quotas),
        )
        mirror = Mirror(
            settings.mirror,
            served=served,
            redactor=self._redactor,
            writer=self._writer,
            encode=self._encode,
            partitions=self._partitions,
            counters=self._counters,
        )
        pool = self._new_pool(settings.upstreams, settings.timeouts, settings.upstream_tls)
        candidates = Candidates(self._routing, self._new_candidate_pool)
        mirror.is_on = candidates.is_on = self._is_on
        host = str(settings.upstreams[0])
        via = "shadow-" + hashlib.blake2b(process.encode(), digest_size=6).hexdigest()
        names = tuple(key.partition(":")[2].lower().encode() for key in settings.mirror.keys)
        return Context(settings, mirror, self._counters, pool, candidates, host.encode(), via.encode(), names)

    def _new_pool(self, endpoints: Sequence[Endpoint], timeouts: Timeouts, tls: ssl.SSLContext | None) -> UpstreamPool:
        settings = self._settings
        return UpstreamPool(
            endpoints,
            limits=settings.limits,
            timeouts=timeouts,
            health=settings.health,
            tls=tls,
            counters=self._counters,
        )

    def _new_candidate_pool(self, endpoint: Endpoint, is_tls: bool) -> UpstreamPool:
        settings = self._settings
        timeouts = replace(settings.timeouts, connect_s=settings.timeouts.candidate_connect_s)
        tls = (settings.candidate_tls or ssl.create_default_context()) if is_tls else None
        return self._new_pool([endpoint], timeouts, tls)

    def _started(self) -> Context:
        if self._context is None:
            raise RuntimeError("The proxy was not started.")
        return self._context

    def switch(self, is_on: bool) -> None:
        """The kill switch: off, nothing is copied and production serves everything; needs nothing but this process.

        Any thread may call it, also before the start.
        """
        self._is_on = is_on
        if self._context is not None:
            self._context.mirror.is_on = self._context.candidates.is_on = is_on

    def snapshot(self) -> Snapshot:
        """What the proxy is doing now."""
        context = self._started()
        return Snapshot(
            counters=self._counters,
            partitions=context.mirror.accounts.snapshot(),
            held_bytes=context.mirror.held_bytes,
            open_clients=len(self._clients),
            active=len(context.active),
            waiting_bytes=sum(client.waiting_bytes for client in self._clients),
            idle_upstream=context.pool.idle,
            share=context.candidates.share,
            is_mirroring=context.mirror.is_on,
            is_draining=context.is_draining,
        )

    async def drain(self, timeout_s: float = 30.0) -> bool:
        """Stop accepting, finish what is in flight, write what waits and the final reports.

        Args:
            timeout_s: For live requests; the log gets what is left of it, and at least 2 s.

        Returns:
            True if every live request was answered and the mirror's thread has ended.
        """
        context, deadline_s = self._started(), time.monotonic() + timeout_s
        context.is_draining = True
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.retire()
        while (context.active or self._clients) and time.monotonic() < deadline_s:
            await asyncio.sleep(_SWEEP_S_MIN)
        is_clean = not context.active
        for client in list(self._clients):
            client.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        context.pool.close()
        context.candidates.close()
        log_s = max(2.0, deadline_s - time.monotonic())
        has_ended = await asyncio.get_running_loop().run_in_executor(None, context.mirror.stop, log_s)
        await asyncio.sleep(0)  # Connections that were just aborted say so in the next turn of the loop.
        return is_clean and has_ended

    def _sweep(self) -> None:
        # First the next turn: whatever goes wrong in this one, time-outs must go on being looked at.
        self._sweeper = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)
        now_s = time.monotonic()
        if now_s - self._swept_s > self._sweep_s + _STALL_S:
            self._counters.stalls += 1
        self._swept_s = now_s
        for client in list(self._clients):
            client.check(now_s)
        context = self._started()
        context.pool.sweep(now_s)
        context.candidates.sweep(now_s)


def _sweep_s(settings: ProxySettings) -> float:
    """How often the time-outs are looked at: four times within the shortest one."""
    times = settings.timeouts
    shortest_s = min(
        times.head_s,
        times.body_s,
        times.idle_s,
        times.stall_s,
        times.linger_s,
        times.answer_s,
        times.gap_s,
        times.total_s,
    )
    return min(max(shortest_s / 4, _SWEEP_S_MIN), _SWEEP_S_MAX)


def run(
    proxy: Proxy,
    *,
    drain_s: float = 30.0,
    delay_s: float = 0.0,
    on_ready: Callable[[int], None] = lambda port: None,
    on_drain: Callable[[], None] = lambda: None,
) -> bool:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once (code 128 + its number).

    Args:
        delay_s: From the signal to the end of accepting, so that load balancers notice what `on_drain` says.
        on_ready: Called with the port once requests are served.
        on_drain: Called at the signal.

    Returns:
        True after a clean drain, False where live requests were cut off or the log was not written out.
    """
    # The mirror's thread may hold the interpreter for one burst, and not for the default 5 ms.
    sys.setswitchinterval(_SWITCH_S)
    heap.settle()  # nothing of a request is in a cycle
    return uvloop.run(_serve(proxy, drain_s, delay_s, on_ready, on_drain))


async def _serve(
    proxy: Proxy, drain_s: float, delay_s: float, on_ready: Callable[[int], None], on_drain: Callable[[], None]
) -> bool:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def interrupt(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupt, number)
    await proxy.start()
    on_ready(proxy.port)
    await stop.wait()
    on_drain()
    await asyncio.sleep(delay_s)
    _log.info("Draining for up to %g s.", drain_s)
    return await proxy.drain(drain_s)
