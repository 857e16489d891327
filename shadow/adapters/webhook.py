"""Send webhooks over HTTP: to checked addresses only, without redirects, proxies, cookies or kept connections.

By number here and in the body:

 1. The host is resolved once for each sending, and every address is checked; one that is refused refuses all.
 2. The connection goes to one of these very addresses, so that a name that resolves to another one a moment later
    changes nothing. The certificate is verified for the name.
 3. The status alone counts. The answer's body is not read: there is nothing in it that we need, and a slow one
    would hold us up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shadow.notify.addresses import Address, address_in, is_loopback, refusal
from shadow.notify.place import FAILED, Outcome, outcome_of
from shadow.notify.signing import signed_headers

TIMEOUT_S: Final = 15.0
TURNS: Final = 3
"""Of the loop, after which an aborted connection's socket is closed."""

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Addresses of a host. Raises OSError where it has none."""


class AddressRefused(OSError):
    """A host is, or resolves to, an address that nothing is sent to."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint, with its secrets revealed.

    Args:
        keys: Signing keys; several during a rotation.
        tls: How its certificate is verified; None: by the system's authorities.
        allows_loopback: Whether it may be on this machine, and only then by plain HTTP.
    """

    name: str
    url: str
    keys: tuple[bytes, ...]
    tls: ssl.SSLContext | None = None
    allows_loopback: bool = False


async def resolved(host: str, port: int) -> list[Address]:
    """What the system's resolver says."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(place[4][0]).partition("%")[0]) for place in found))


def checked(target: Target, host: str, addresses: Sequence[Address]) -> Sequence[Address]:
    """The addresses, if something may be sent to all of them.

    Raises:
        AddressRefused: If there is none, or one is not allowed.
    """
    if not addresses:
        raise AddressRefused(f"{host} has no address")
    is_plain = urlsplit(target.url).scheme == "http"
    for address in addresses:
        reason = refusal(address, allows_loopback=target.allows_loopback)
        if reason is None and is_plain and not is_loopback(address):
            reason = "is not on this machine, and plain HTTP goes nowhere else"
        if reason is not None:
            shown = str(address) if str(address) == host else f"{host} resolves to {address}, which"
            raise AddressRefused(f"{shown} {reason}; nothing is sent there")
    return addresses


class CheckedResolver(AbstractResolver):
    """1. and 2. Gives the client the checked addresses."""

    def __init__(self, target: Target, resolve: Resolve) -> None:
        self._target = target
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = checked(self._target, host, await self._resolve(host, port))
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is kept."""


class CheckedConnector(aiohttp.TCPConnector):
    """One for each sending: nothing is kept, and its end is the connection's."""

    def __init__(self, target: Target, resolver: AbstractResolver) -> None:
        tls = target.tls if target.tls is not None else True
        super().__init__(resolver=resolver, use_dns_cache=False, ssl=tls)
        self._target = target
        self._opened: asyncio.BaseTransport | None = None

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Look at where the connection leads, whatever led there, and remember it: the client lets it go in many ways.

        Raises:
            AddressRefused: If nothing is sent there.
        """
        connection = await super().connect(*args, **kwargs)
        self._opened = connection.transport
        assert connection.transport is not None, "it was just opened"
        peer = str(connection.transport.get_extra_info("peername")[0])
        try:
            checked(self._target, peer, [ipaddress.ip_address(peer.partition("%")[0])])
        except AddressRefused:
            connection.close()
            raise
        return connection

    async def end(self) -> None:
        """Abort the connection: a farewell by TLS would wait for a receiver that may be busy with its answer."""
        if isinstance(self._opened, asyncio.WriteTransport):
            self._opened.abort()
            for _ in range(TURNS):
                await asyncio.sleep(0)


async def send(
    target: Target,
    event_id: str,
    body: bytes,
    content_type: str,
    *,
    timestamp_s: int,
    resolve: Resolve = resolved,
    timeout_s: float = TIMEOUT_S,
) -> Outcome:
    """Send one event once; what goes wrong is the outcome, and never raised.

    Args:
        timestamp_s: Now, seconds since the Unix epoch.
        timeout_s: For all of it, the resolver included.
    """
    headers = {
        "content-type": content_type,
        "user-agent": "shadow-notifier",
        **signed_headers(event_id, timestamp_s, body, target.keys),
    }
    try:
        async with asyncio.timeout(timeout_s):
            return await _post(target, body, headers, resolve)
    except TimeoutError:
        return Outcome(FAILED, f"the receiver did not answer within {timeout_s:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Outcome(FAILED, _words(error))


async def _post(target: Target, body: bytes, headers: Mapping[str, str], resolve: Resolve) -> Outcome:
    address = address_in(urlsplit(target.url).hostname or "")
    if address is not None:  # the client asks no resolver for it
        checked(target, str(address), [address])
    connector = CheckedConnector(target, CheckedResolver(target, resolve))
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            ) as session,
            session.post(target.url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            # 3. No body.
            outcome = outcome_of(response.status, response.headers.get("retry-after"))
            response.close()
            return outcome
    finally:
        await connector.end()


def _words(error: BaseException) -> str:
    # The client wraps what the resolver raised; the reason is the innermost of them.
    refused: BaseException | None = error
    while refused is not None and not isinstance(refused, AddressRefused):
        refused = refused.__cause__ or refused.__context__
    words = " ".join(str(refused or error).split())[:200] or type(error).__name__
    # A URL may be a secret of its own (chats' incoming webhooks), so none is said.
    return type(error).__name__ if "://" in words else words
