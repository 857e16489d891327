"""The nouns of this package's tables: what was sent, what the client saw of it, and what the upstream saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

HOST = b"Host: a\r\n"
FINE = b"fine"
LAST = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """One whole request as the upstream read it."""

    method: bytes
    target: bytes = b"/"
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes of a client.

    Args:
        number: Of the list of bad inputs; empty for those beyond the list.
        section: Of the RFC that speaks of it.
        statuses: Of every answer that the client gets, in order.
        upstream: Whole requests that the upstream reads, in order. Where it is empty, not one byte reaches it.
        closes: Whether the proxy ends the client's connection; where it does not, the connection serves on.
        lines: Lines that stand in what went upstream.
        gone: Texts that stand nowhere in it, whatever their case.
    """

    number: str
    name: str
    section: str
    sent: bytes
    statuses: tuple[int, ...]
    upstream: tuple[Seen, ...] = ()
    closes: bool = True
    lines: tuple[bytes, ...] = ()
    gone: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerCase:
    """Bytes of an upstream, in answer to one request.

    Args:
        status: That the client gets.
        body: That the client gets; of a refusal, None: any text.
        then: What the upstream does behind its bytes: `stays`, `closes` or `resets`.
        breaks_off: Whether the client's connection is reset, so that what it got cannot be taken for whole.
        reuses: Whether the next request goes over the same upstream connection.
        interims: Statuses of the interim answers that the client gets before.
        gone: Texts that the client does not get.
    """

    number: str
    name: str
    section: str
    sent: bytes
    status: int = 502
    body: bytes | None = None
    method: bytes = b"GET"
    then: str = "stays"
    breaks_off: bool = False
    reuses: bool = False
    interims: tuple[int, ...] = ()
    gone: tuple[bytes, ...] = ()


def refused(number: str, name: str, section: str, sent: bytes, status: int = 400) -> Case:
    """A request that is answered by a status and a closed connection, and of which the upstream sees nothing."""
    return Case(number, name, section, sent, (status,))


def passed(number: str, name: str, section: str, sent: bytes, *upstream: Seen, **more: Any) -> Case:
    """Requests that reach the upstream, and after which the connection serves on."""
    return Case(number, name, section, sent, (200,) * len(upstream), upstream, **{"closes": False, **more})


def each(cases: Iterable[Case | AnswerCase]) -> list[Any]:
    """The cases as parameters whose ids say their numbers: `input-7-two-numbers`, or `more-...`."""
    return [pytest.param(case, id=_id(case)) for case in cases]


def _id(case: Case | AnswerCase) -> str:
    kind = f"input-{case.number}" if case.number else "more"
    return f"{kind}-{case.name}".replace(" ", "-")


def posted(*fields: bytes, body: bytes = b"", host: bytes = HOST, version: bytes = b"1.1") -> bytes:
    """A POST with these fields."""
    return b"POST / HTTP/%b\r\n%b%b\r\n%b" % (version, host, b"".join(field + b"\r\n" for field in fields), body)


def sized(value: bytes, body: bytes = b"hello") -> bytes:
    """A POST with this Content-Length."""
    return posted(b"Content-Length: " + value, body=body)


def coded(value: bytes, body: bytes = LAST) -> bytes:
    """A POST with this Transfer-Encoding."""
    return posted(b"Transfer-Encoding: " + value, body=body)


def chunked(body: bytes) -> bytes:
    """A chunked POST with this body."""
    return coded(b"chunked", body)


def got(*fields: bytes, host: bytes = HOST, target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    """A GET with these fields."""
    return b"GET %b %b\r\n%b%b\r\n" % (target, version, host, b"".join(field + b"\r\n" for field in fields))


def answered(*fields: bytes, body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """An answer with these fields."""
    return b"%b\r\n%b\r\n%b" % (line, b"".join(field + b"\r\n" for field in fields), body)
