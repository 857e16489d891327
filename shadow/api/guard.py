"""Who may call what changes something on an admin port; metrics and probes are for everybody who reaches it."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import orjson
from aiohttp import web


class Refusal(Exception):
    """A reply that changes nothing."""

    def __init__(
        self, status: int, sentence: str, problems: list[str] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.problems = problems or []
        self.headers = headers or {}

    def response(self) -> web.Response:
        """The reply itself."""
        return web.Response(
            status=self.status,
            body=orjson.dumps({"error": self.sentence, "problems": self.problems}),
            content_type="application/json",
            headers=self.headers,
        )


class Guard:
    """Lets in who knows the token; without one, who calls the loopback.

    Args:
        host: Address on which the port listens.
        token: What a client must send as bearer token; None: nothing, and then the loopback only is served.
        what: What is refused otherwise, for the sentence, such as `answers are taken`.
    """

    def __init__(self, host: str, token: str | None, what: str) -> None:
        self._host = host
        self._token = token
        self._what = what

    def check(self, request: web.Request) -> None:
        """Let the request pass.

        Raises:
            Refusal: With 401 or 403, if it may not.
        """
        if self._token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token.encode())
            if scheme.lower() != "bearer" or not is_right:
                sentence = "a token is needed, as `Authorization: Bearer …`; it is admin.token of the configuration"
                raise Refusal(401, sentence, headers={"www-authenticate": "Bearer"})
        elif not _is_loopback(self._host):
            raise Refusal(
                403, f"without admin.token {self._what} on the loopback only, and this port is on {self._host}"
            )
        # A page that had its own name resolved to this machine would be let in otherwise.
        elif not _is_loopback(_host_of(request)):
            raise Refusal(403, "without admin.token the port must be called by a loopback address, not by a name")


def _host_of(request: web.Request) -> str:
    """The host that the client called, without its port; empty where the header is none."""
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
