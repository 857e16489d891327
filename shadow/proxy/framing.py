"""Say where a body ends: by its length, by its chunks, or by the end of the connection. Pure.

Every reader has `feed(data) -> (pieces, rest)`: the payload in `data`, and the bytes behind the
body's end (None while it has not ended).
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from shadow.proxy.config import Limits
from shadow.proxy.heads import Field, Rejected, trailer_fields

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t\x20-\x7e\x80-\xff]*)?)")
_SIZE_LINE_BYTES: Final = 18

_AT_SIZE, _AT_DATA, _AT_DATA_END, _AT_TRAILER = range(4)


class BodyReader(Protocol):
    """Finds the end of one body."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """Take the next bytes of the connection.

        Raises:
            Rejected: If the framing is broken.
        """
        ...


class LengthReader:
    """A body of a known length."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        self.remaining = length

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """See `BodyReader`."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return [data], None
        end, self.remaining = self.remaining, 0
        if size == end:
            return [data] if end else [], b""
        return [data[:end]] if end else [], data[end:]


class CloseReader:
    """A body that ends where the connection ends."""

    __slots__ = ()

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """See `BodyReader`."""
        return [data], None


class ChunkedReader:
    """A chunked body. Strict: no white space around sizes, CR LF everywhere, extensions bounded.

    `trailers` holds the fields behind the last chunk once the body has ended.

    Args:
        is_request: Whether a client sends it, of whom more is refused.
    """

    __slots__ = ("_extensions", "_held", "_limits", "_refuses_underscores", "_remaining", "_state", "trailers")

    def __init__(self, limits: Limits, *, is_request: bool = False) -> None:
        self._limits = limits
        self._refuses_underscores = is_request and limits.refuses_underscores
        self._state = _AT_SIZE
        self._held = b""
        self._remaining = 0
        self._extensions = 0
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """See `BodyReader`."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._state == _AT_DATA:
                stop = min(at + self._remaining, end)
                pieces.append(data[at:stop])
                self._remaining -= stop - at
                at = stop
                if not self._remaining:
                    self._state = _AT_DATA_END
            elif self._state == _AT_DATA_END:
                if not b"\r\n".startswith(data[at : at + 2]):
                    raise Rejected(400, "A chunk is longer than its size says.")
                if end - at < 2:
                    break
                at += 2
                self._state = _AT_SIZE
            elif self._state == _AT_SIZE:
                stop = data.find(b"\r\n", at)
                if stop < 0:
                    self._check_size_start(data[at:])
                    break
                self._begin_chunk(data[at:stop])
                at = stop + 2
            else:
                done = self._trailer(data[at:])
                if done is None:
                    break
                return pieces, done
        self._held = data[at:]
        return pieces, None

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise Rejected(400, "A chunk size is not a plain hexadecimal number.")
        self._extensions += len(match[2])
        if len(match[2]) > self._limits.extension_bytes_max or self._extensions > self._limits.extensions_bytes_max:
            raise Rejected(400, f"The chunk extensions have more than {self._limits.extension_bytes_max} bytes.")
        self._remaining = int(match[1], 16)
        self._state = _AT_DATA if self._remaining else _AT_TRAILER

    def _check_size_start(self, line: bytes) -> None:
        if len(line) > self._limits.extension_bytes_max + _SIZE_LINE_BYTES:
            raise Rejected(400, f"A chunk extension has more than {self._limits.extension_bytes_max} bytes.")
        if _SIZE.fullmatch(line.removesuffix(b"\r") or b"0") is None:
            raise Rejected(400, "A chunk size is not a plain hexadecimal number.")

    def _trailer(self, data: bytes) -> bytes | None:
        """Bytes behind the trailer section, or None while it has not ended."""
        if data.startswith(b"\r\n"):
            return data[2:]
        stop = data.find(b"\r\n\r\n")
        if stop >= 0 and stop <= self._limits.trailer_bytes_max:
            self.trailers = trailer_fields(data[: stop + 2], refuses_underscores=self._refuses_underscores)
            return data[stop + 4 :]
        if len(data) > self._limits.trailer_bytes_max or stop >= 0:
            raise Rejected(400, f"The trailer section has more than {self._limits.trailer_bytes_max} bytes.")
        if b"\n" in data.replace(b"\r\n", b""):
            raise Rejected(400, "A trailer line does not end in CR LF.")
        return None


def chunk(pieces: list[bytes]) -> bytes:
    """One chunk that carries all pieces; nothing where they are empty, since an empty chunk would end the body."""
    payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def last_chunk(trailers: list[Field]) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % (name, value) for name, _, value in trailers) + b"\r\n"
