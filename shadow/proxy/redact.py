"""Take out of a copy what must not be recorded, before the record exists.

Headers pass only by an allow-list. Configured JSON paths are masked in every body that is JSON, and in
the data lines of event streams. A body that should be JSON and cannot be read, or that is compressed while
paths are configured, is refused, since nobody can say what is in it. Pure.

Not promised: JSON inside a JSON string is not looked into. A masked body is written anew, so white space is
gone, of repeated keys the last one stays, and integers beyond 64 bits become floats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import jsonpath
import orjson

from shadow.proxy.config import NEVER_RECORDED, RECORDED, Redaction

MASK: Final = "***"
_SEPARATOR: Final = re.compile(rb"([&;])")


class Unredactable(Exception):
    """A body in which the configured paths cannot be looked for; its copy must be dropped."""


class Redactor:
    """The compiled rules.

    Raises:
        ValueError: If a JSON path cannot be read.
    """

    def __init__(self, redaction: Redaction) -> None:
        names = RECORDED | {name.lower() for name in redaction.headers}
        self._names = frozenset(name.encode("latin-1") for name in names - NEVER_RECORDED)
        try:
            self._paths = [jsonpath.compile(path) for path in redaction.json]
        except jsonpath.JSONPathError as error:
            raise ValueError(f"A JSON path of redact.json cannot be read: {error}.") from error
        self._parameters = frozenset(name.lower().encode() for name in redaction.query)

    def headers(self, fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """The fields (lower-case name, value) that may be recorded."""
        names = self._names
        return {name.decode("latin-1"): _text(value) for name, value in fields if name in names}

    def target(self, target: bytes) -> str:
        """A request target with the values of credential parameters masked, however their names are written."""
        path, found, query = target.partition(b"?")
        if found and b"=" in query and self._parameters:
            pieces = _SEPARATOR.split(query)
            pieces[::2] = [self._parameter(piece) for piece in pieces[::2]]
            target = path + found + b"".join(pieces)
        return _text(target)

    def _parameter(self, piece: bytes) -> bytes:
        name, found, _ = piece.partition(b"=")
        # What follows a bracket makes an array of it, for some servers.
        plain = unquote_to_bytes(name.replace(b"+", b" ")).strip().lower().partition(b"[")[0]
        return name + found + MASK.encode() if found and plain in self._parameters else piece

    def body(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """A body with the configured JSON paths masked; the same bytes where no path is configured.

        Args:
            headers: Recorded headers of the message.

        Raises:
            Unredactable: If the paths cannot be looked for.
        """
        if not self._paths or not body:
            return body
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Unredactable(f"The body is encoded as {headers['content-encoding']}.")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return self._stream(body)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            if not kind or "json" in kind:
                raise Unredactable("The body should be JSON and cannot be read.") from error
            return body
        return self._masked(document)

    def _stream(self, body: bytes) -> bytes:
        lines = re.split(rb"(\r\n|\n|\r)", body.removeprefix(b"\xef\xbb\xbf"))
        for index, line in enumerate(lines):
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data[:1] in (b"{", b"["):
                    try:
                        document = b"data: " + self._masked(orjson.loads(data))
                    except orjson.JSONDecodeError as error:
                        if data == b"[DONE]":
                            continue
                        raise Unredactable("A data line of the event stream cannot be read.") from error
                    lines[index] = document
        return b"".join(lines)

    def _masked(self, document: Any) -> bytes:
        holder = [document]
        try:
            for path in self._paths:
                for match in list(path.finditer(holder[0])):
                    _replace(holder, match.parts)
            return orjson.dumps(holder[0])
        except (jsonpath.JSONPathError, orjson.JSONEncodeError, RecursionError, TypeError) as error:
            raise Unredactable("A JSON path could not be applied.") from error


def _replace(holder: list[Any], parts: tuple[Any, ...]) -> None:
    target: Any = holder
    key: Any = 0
    for part in parts:
        target, key = target[key], part
        if target == MASK:
            return  # An outer path has masked it already.
    target[key] = MASK


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
