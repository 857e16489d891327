"""Call a model over HTTP, once, and report what came of it.

Whatever the model does is data: refused and reset connections, early closes, garbage, hangs and server errors
end in a Reply with an outcome. A call is never repeated, never redirected, never sent through a proxy that the
environment names, and it carries no credential of the recorded request.
"""

from __future__ import annotations

import asyncio
import io
import time
import uuid
from collections.abc import Mapping
from typing import Final, Self

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from shadow.adapters.rewrite import TOKEN, Rewrite
from shadow.errors import Usage
from shadow.records.answers import ANSWERED, ERROR, REFUSED, TIMEOUT, TOO_LARGE
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest
from shadow.usage import Price, tokens_of

BODY_BYTES_MAX: Final = 1 << 20
HEADERS_KEPT: Final = frozenset({"content-type", "content-encoding", "content-language", "retry-after", "x-request-id"})
CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key"})
IDEMPOTENCY: Final = frozenset({"idempotency-key", "x-idempotency-key"})
NOT_SENT: Final = (
    CREDENTIALS
    | IDEMPOTENCY
    | {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept-encoding",
        "proxy-connection",
    }
)
"""Recorded headers that belong to the first call only."""
IDLE_S: Final = 2.0
"""Below the idle limits of common servers (5 s), so that a call rarely meets a connection that is just closed."""

LARGE_BODY_BYTES: Final = 1 << 20
"""aiohttp wants a larger body as a file."""

_FAILURES: Final = (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError, EOFError)
"""What aiohttp raises when a model cannot be reached or does not speak HTTP."""


class HttpModel:
    """A model behind an HTTP address. Use it on one event loop only.

    Args:
        url: Scheme, host, port and perhaps a path before every request's.
        deadline_us: Longest time from the call's start to the reply's end, by our clock.
        rewrite: Changes for this role.
        body_bytes_max: A longer body is not read to its end: outcome `too_large`.
        price: Price of the tokens that the model states.
        cost_max_micro: A reply that costs more is cut off where it streams, and is a failure; None for no cap.
            While it streams, each event is taken for one token, since its usage comes last.
        headers_kept: Names of the reply's headers to record, in lower case.

    Raises:
        Usage: If the URL is not one.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_us: int,
        rewrite: Rewrite | None = None,
        body_bytes_max: int = BODY_BYTES_MAX,
        price: Price | None = None,
        cost_max_micro: int | None = None,
        headers_kept: frozenset[str] = HEADERS_KEPT,
    ) -> None:
        self._base = base_url(url)
        self._deadline_us = deadline_us
        self._rewrite = rewrite or Rewrite()
        self._body_bytes_max = body_bytes_max
        self._price = price or Price()
        self._cost_max_micro = cost_max_micro
        self._headers_kept = headers_kept - CREDENTIALS
        self._session: aiohttp.ClientSession | None = None

    async def call(self, request: MirroredRequest, role: str, version: str) -> Reply:
        """Put a recorded request to the model.

        Args:
            role: For which role; told to the model in `x-shadow-role`.
            version: Version of the role; told to the model in `x-shadow-version`.
        """
        call = _Call()
        try:
            url = URL(f"{self._base}{self._rewrite.path_prefix}{_checked_path(request.path)}", encoded=True)
            headers = self._headers(request, role, version)
            body = self._rewrite.body(request.body)
        except (ValueError, TypeError) as error:
            return call.reply(REFUSED, f"the recorded request cannot be sent again: {_words(error)}")
        try:
            async with asyncio.timeout(self._deadline_us / 1e6):
                return await self._exchange(call, request.method, url, headers, body)
        except TimeoutError:
            return call.reply(TIMEOUT, f"no complete reply within {self._deadline_us / 1e6:g} s")
        except aiohttp.InvalidURL as error:
            return call.reply(REFUSED, f"the recorded request cannot be sent again: {_words(error)}")
        except _FAILURES as error:
            return call.reply(ERROR, _sentence(error))
        except ValueError as error:
            # aiohttp refuses methods and headers that no request may have.
            return call.reply(REFUSED, f"the recorded request cannot be sent again: {_words(error)}")

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _exchange(self, call: _Call, method: str, url: URL, headers: Mapping[str, str], body: bytes) -> Reply:
        data = io.BytesIO(body) if len(body) > LARGE_BODY_BYTES else body or None
        async with self._opened().request(method, url, headers=headers, data=data, allow_redirects=False) as response:
            call.first_byte_us = call.elapsed_us()
            call.status = response.status
            call.headers = _kept(response.headers, self._headers_kept)
            is_stream = response.content_type == "text/event-stream"
            events_max = self._events_max() if is_stream else None
            received: list[bytes] = []
            size = events = 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > self._body_bytes_max:
                    response.close()
                    return call.reply(TOO_LARGE, f"the reply has more than the {self._body_bytes_max} bytes kept")
                received.append(chunk)
                if events_max is not None:
                    events += chunk.count(b"data:")
                    if events > events_max:
                        response.close()
                        call.completion_tokens = events
                        return self._over_cost(call)
        return self._judged(call, b"".join(received), is_stream)

    def _judged(self, call: _Call, body: bytes, is_stream: bool) -> Reply:
        call.body = body
        call.prompt_tokens, call.completion_tokens = tokens_of(body, is_stream=is_stream)
        call.cost_micro = self._price.cost_micro(call.prompt_tokens, call.completion_tokens)
        if call.status >= 500:
            return call.reply(ERROR, f"the model answered with status {call.status}")
        if call.status < 200:
            return call.reply(ERROR, f"the model ended the call with status {call.status}")
        if self._cost_max_micro is not None and call.cost_micro > self._cost_max_micro:
            return self._over_cost(call)
        return call.reply(ANSWERED, None)

    def _over_cost(self, call: _Call) -> Reply:
        call.cost_micro = self._price.cost_micro(call.prompt_tokens, call.completion_tokens)
        call.body = b""
        return call.reply(
            ERROR,
            f"the reply costs {call.cost_micro / 1e6:g}, more than the cap of {(self._cost_max_micro or 0) / 1e6:g}",
        )

    def _events_max(self) -> int | None:
        if self._cost_max_micro is None or self._price.completion_micro <= 0:
            return None
        return self._cost_max_micro * 1_000_000 // self._price.completion_micro + 1

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            )
        return self._session

    def _headers(self, request: MirroredRequest, role: str, version: str) -> dict[str, str]:
        for name in request.headers:
            if TOKEN.fullmatch(name) is None:
                raise ValueError(f"{name[:80]!r} is not a header name")
        headers = {
            name.lower(): value
            for name, value in request.headers.items()
            if name.lower() not in NOT_SENT and not name.lower().startswith("x-shadow")
        }
        # Identity, so that a reply's tokens can be read without inflating what a model sends.
        headers["accept-encoding"] = "identity"
        headers["idempotency-key"] = str(uuid.uuid4())
        headers["x-shadow"] = "1"
        headers["x-shadow-role"] = role
        headers["x-shadow-version"] = version
        headers["x-shadow-request-id"] = request.request_id
        for name, secret in self._rewrite.headers.items():
            headers[name] = secret.get_secret_value()
        return headers


class _Call:
    """What is known of a call so far, so that a failure at any moment reports it."""

    def __init__(self) -> None:
        self.started_us = time.time_ns() // 1000
        self._began_ns = time.perf_counter_ns()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.first_byte_us = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cost_micro = 0

    def elapsed_us(self) -> int:
        return max(1, (time.perf_counter_ns() - self._began_ns) // 1000)

    def reply(self, outcome: str, error: str | None) -> Reply:
        return Reply(
            outcome=outcome,
            status=self.status,
            headers=self.headers,
            body=self.body,
            started_us=self.started_us,
            first_byte_us=self.first_byte_us,
            duration_us=self.elapsed_us(),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_micro=self.cost_micro,
            error=error,
        )


def base_url(text: str) -> str:
    """A model's URL without its last slash.

    Raises:
        Usage: If it is not an absolute http or https URL, or if it carries credentials, a query or a fragment.
    """
    try:
        url = URL(text)
    except ValueError as error:
        raise Usage(f"model url: read {text!r}: {_words(error)}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise Usage(f"model url: read {text!r}, must be like http://candidate:8000")
    if url.user or url.password or url.query_string or url.fragment:
        raise Usage("model url: must have no user, password, query or fragment; put credentials into rewrite.headers")
    return str(url).rstrip("/")


def _checked_path(path: str) -> str:
    if not path.startswith("/") or any(ord(character) <= 32 or ord(character) == 127 for character in path):
        raise ValueError(f"its path {path[:80]!r} is not one")
    return path


def _kept(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name.lower(): _clean(value) for name, value in headers.items() if name.lower() in names}


def _clean(text: str) -> str:
    """Text that can be written as UTF-8: aiohttp keeps foreign bytes of a header as lone surrogates."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return text.encode("utf-8", "replace").decode("utf-8") or type(error).__name__


def _sentence(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"the model cannot be reached: {_words(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the model closed the connection before it answered"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"the reply ended early: {_words(error)}"
    if isinstance(error, aiohttp.ClientResponseError | http_exceptions.HttpProcessingError):
        return f"the reply is not HTTP: {_words(error)}"
    return f"the connection failed: {_words(error)}"
