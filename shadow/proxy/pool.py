"""The connections to one upstream: several addresses, kept connections, and health judged by live requests.

    names --looked up--> addresses --least busy, healthy--> idle connection, or a new one

An address that fails several times in a row is passed over for a while. Names are looked up again in the
background; an address that is not listed any more gets no new request. If nothing is healthy, everything is used,
since a refusal says no more than a failure would.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from shadow.proxy.config import Endpoint, Health, Limits, Timeouts
from shadow.proxy.counters import ProxyCounters
from shadow.proxy.upstream import Address, AnswerTaker, UpstreamConnection

_log = logging.getLogger("shadow.proxy")

_TRIES_MAX: Final = 3
"""Addresses that are tried for one request; nothing was sent to those that fail."""


class UpstreamPool:
    """See the module. Used on one event loop.

    Args:
        endpoints: Equal servers of one version, at least one.
        tls: None: plain HTTP.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        limits: Limits,
        timeouts: Timeouts,
        health: Health,
        tls: ssl.SSLContext | None,
        counters: ProxyCounters,
    ) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self._health = health
        self._tls = tls
        self._counters = counters
        self._names = [endpoint for endpoint in endpoints if not _is_address(endpoint.host)]
        fixed = [Address(endpoint.host, endpoint.port, endpoint.host) for endpoint in endpoints]
        self._fixed = [address for address in fixed if _is_address(address.host)]
        self._addresses = list(self._fixed)
        self._former: list[Address] = []
        self._turn = 0
        self._lookup: asyncio.Task[None] | None = None
        self._looked_up_s = float("-inf")
        self._dials: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> int:
        """Connections that wait for use."""
        return sum(len(address.idle) for address in self._addresses)

    @property
    def is_out(self) -> bool:
        """Whether every address is passed over at the moment."""
        now_s = time.monotonic()
        return bool(self._addresses) and all(address.out_until_s > now_s for address in self._addresses)

    # Connections.

    def take(self) -> UpstreamConnection | None:
        """The most recently used connection that is still good, of the address that is to be used next."""
        now_s = time.monotonic()
        self._turn += 1
        address = self._next(now_s)
        if address is None:
            return None
        idle = address.idle
        while idle:
            connection = idle.pop()
            if connection.is_usable(now_s):
                connection.is_reused = True
                return connection
            connection.abort()
        return None

    def dial(self, taker: AnswerTaker) -> asyncio.Task[None]:
        """Open a connection for someone; the task may be cancelled."""
        task = asyncio.get_running_loop().create_task(self._dial(taker))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return task

    async def _dial(self, taker: AnswerTaker) -> None:
        if not self._addresses:
            await self._look_up_once()
        tried: set[Address] = set()
        is_timed_out = False
        while len(tried) < _TRIES_MAX:
            address = self._next(time.monotonic(), tried)
            if address is None:
                break
            tried.add(address)
            try:
                connection = await self._open(address)
            except TimeoutError:
                is_timed_out = True
                self._failed(address)
            except OSError:  # Also what a TLS handshake raises.
                self._failed(address)
            else:
                self._counters.upstream_connections += 1
                taker.connected(connection)
                return
        if is_timed_out:
            limit_s = self.timeouts.connect_s
            taker.failed(504, "time_out", f"The upstream did not accept a connection within {limit_s:g} s.")
        elif tried:
            taker.failed(502, "connect", "The upstream does not accept connections.")
        else:
            taker.failed(502, "connect", "The upstream's name is not known.")

    async def _open(self, address: Address) -> UpstreamConnection:
        loop, connection = asyncio.get_running_loop(), UpstreamConnection(self, address)
        address.dialing += 1
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                await loop.create_connection(
                    lambda: connection,
                    address.host,
                    address.port,
                    ssl=self._tls,
                    server_hostname=None if self._tls is None else address.name,
                )
        except asyncio.CancelledError:
            if connection in address.open:
                connection.abort()
            raise
        finally:
            address.dialing -= 1
        return connection

    def opened(self, connection: UpstreamConnection) -> None:
        """Know of a connection."""
        connection.address.open.add(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """Forget a connection."""
        address = connection.address
        address.open.discard(connection)
        if connection.taker is None and connection in address.idle:
            address.idle.remove(connection)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer is complete."""
        address = connection.address
        address.failures = 0
        if len(address.idle) >= self.limits.idle_upstream_connections_max or address in self._former:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        connection.transport.resume_reading()
        address.idle.append(connection)

    def blame(self, connection: UpstreamConnection) -> None:
        """Count a connection that ended without an answer, or with what is none."""
        self._failed(connection.address)

    # Addresses.

    def _next(self, now_s: float, tried: set[Address] | None = None) -> Address | None:
        """The least busy healthy address that was not tried; in turn where several are."""
        addresses = self._addresses
        if len(addresses) == 1 and not tried:
            return addresses[0]
        left = [address for address in addresses if not tried or address not in tried]
        healthy = [address for address in left if address.out_until_s <= now_s] or left
        if not healthy:
            return None
        first = self._turn % len(healthy)
        return min(healthy[first:] + healthy[:first], key=lambda address: address.busy)

    def _failed(self, address: Address) -> None:
        address.failures += 1
        if address.failures >= self._health.failures_max:
            address.out_until_s = time.monotonic() + self._health.out_s
            address.close_idle()

    # Names.

    async def _look_up_once(self) -> None:
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.get_running_loop().create_task(self._look_up())
        # Whoever else waits for it goes on if this one is cancelled.
        await asyncio.shield(self._lookup)

    async def _look_up(self) -> None:
        found: list[tuple[str, int, str]] = []
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                for endpoint in self._names:
                    found += await _resolved(endpoint)
        except OSError as error:
            # The addresses that are known may still serve.
            self._counters.count_failure("resolve")
            _log.warning("The name of an upstream cannot be looked up: %s", error or "it took too long")
            return
        finally:
            self._looked_up_s = time.monotonic()
        known = {(address.host, address.port, address.name): address for address in self._addresses + self._former}
        listed = [known.get(entry) or Address(*entry) for entry in dict.fromkeys(found)]
        former = [address for address in self._addresses if address not in listed and address not in self._fixed]
        for address in former:
            address.close_idle()
        self._former = [address for address in {*self._former, *former} if address.open and address not in listed]
        self._addresses = self._fixed + listed

    # Time.

    def sweep(self, now_s: float) -> None:
        """Close the connections that were idle too long, and look names up again when it is time."""
        for address in self._addresses:
            idle = address.idle
            while idle and now_s - idle[0].idle_since > self.timeouts.upstream_idle_s:
                idle.popleft().abort()
        is_due = self._names and self._addresses and now_s - self._looked_up_s > self._health.resolve_s
        if is_due and (self._lookup is None or self._lookup.done()):
            self._lookup = asyncio.get_running_loop().create_task(self._look_up())

    def close(self) -> None:
        """Close everything at once."""
        for task in list(self._dials):
            task.cancel()
        if self._lookup is not None:
            self._lookup.cancel()
        for address in self._addresses + self._former:
            for connection in list(address.open):
                connection.abort()
            address.idle.clear()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _resolved(endpoint: Endpoint) -> list[tuple[str, int, str]]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    return [(str(where[0]), endpoint.port, endpoint.host) for *_, where in found]
