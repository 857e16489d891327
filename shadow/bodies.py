"""Read the bodies of requests and answers; whatever stands in them, nothing here raises. Pure.

What JSON leaves open is closed here: NaN, numbers beyond a double, lone surrogates, nesting beyond 1,024 levels
and repeated keys make a body "not JSON". Whole numbers beyond 64 bits become floats.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import brotli
import orjson
import zstandard

INFLATED_BYTES_MAX: Final = 1 << 20
LAYERS_MAX: Final = 3
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
ZSTD_WINDOW_BYTES_MAX: Final = 8 << 20
"""What RFC 8878, section 3.1.1.1.2, recommends that decoders support."""

_CONTAINERS: Final = frozenset({dict, list})

NOT_JSON: Final = object()
"""What `json_of` returns for a body that is not JSON; None is the JSON value null."""


class Unreadable(ValueError):
    """A body in an encoding that is not read, or that grows too large; the text says which."""


def json_of(body: bytes) -> Any:
    """The parsed body, or `NOT_JSON`."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return NOT_JSON
    return NOT_JSON if _repeats_key(body, document) else document


def _repeats_key(body: bytes, document: Any) -> bool:
    """Whether an object has a key twice, which orjson does not tell.

    Each member has one colon outside of strings, so members and the strings' own colons must explain all of them.
    """
    colons = body.count(b":")
    if colons < 2 or (type(document) is dict and len(document) == colons):
        return False  # one member at most, or each colon is that of a member of the outer object
    if b"\\u003" not in body:
        for item in _walk(document):
            if type(item) is str:
                colons -= item.count(":")
            elif type(item) is dict:
                colons -= len(item)
                for key in item:
                    colons -= key.count(":")
        return colons != 0
    try:
        json.loads(body, object_pairs_hook=_unique, parse_int=_ignored, parse_float=_ignored)
    except (ValueError, RecursionError):
        return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key is repeated")
    return tree


def _ignored(digits: str) -> int:
    return 0


def _walk(document: Any) -> Iterable[Any]:
    """Every value, in the document's order; without recursion, since a body may be nested deeply."""
    if type(document) is dict and _CONTAINERS.isdisjoint(map(type, document.values())):
        # Most bodies are flat, and need no stack: 0.5 µs instead of 0.8.
        return (document, *document.values())
    return _walk_deeply(document)


def _walk_deeply(document: Any) -> Iterator[Any]:
    waiting = [document]
    while waiting:
        item = waiting.pop()
        yield item
        if type(item) is dict:
            waiting.extend(reversed(item.values()))
        elif type(item) is list:
            waiting.extend(reversed(item))


def strings_of(document: Any) -> str:
    """The string values of a document (not its keys), in its order, one a line."""
    return "\n".join([item for item in _walk(document) if type(item) is str])


def decoded(body: bytes) -> str:
    """The body as text: UTF-8, or UTF-16 where its mark says so; what is no text is replaced."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    return body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def inflated(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body with its content encodings (gzip, deflate, br, zstd, identity) undone, at most 1 MiB.

    A body that does not look like what its header says is taken as it is.

    Raises:
        Unreadable: If another encoding is named, over three are, or the result is over 1 MiB.
    """
    header = headers.get("content-encoding", "")
    if not header or not body:
        return body
    names = [name.strip().lower() for name in header.split(",") if name.strip()]
    if len(names) > LAYERS_MAX:
        raise Unreadable(f"the body is encoded {len(names)} times, at most {LAYERS_MAX} are undone")
    for name in reversed(names):
        if name in ("gzip", "x-gzip"):
            body = _inflate(body, 31) if body[:2] == GZIP_MAGIC else body
        elif name == "deflate" and len(body) > 1:
            # In the wild both the zlib format of RFC 9110 and bare deflate go by this name.
            body = _inflate(body, 15 if body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0 else -15)
        elif name == "br":
            body = _from_brotli(body)
        elif name == "zstd":
            body = _from_zstd(body) if body[:4] == ZSTD_MAGIC else body
        elif name not in ("identity", "deflate"):
            raise Unreadable(f"the body is encoded as {name[:40]!r}, which is not read")
    return body


def _inflate(body: bytes, window_bits: int) -> bytes:
    parts: list[bytes] = []
    rest, left = body, INFLATED_BYTES_MAX
    while rest:
        inflater = zlib.decompressobj(window_bits)
        try:
            # One byte more than may come out, so that a body of exactly the limit is told from a larger one.
            part = inflater.decompress(rest, left + 1)
        except zlib.error:
            return b"".join(parts) if parts else body
        left -= len(part)
        if left < 0:
            raise _too_large()
        parts.append(part)
        # Clients read every member of a gzip body, so what stands behind the first one is part of the answer.
        rest = inflater.unused_data if inflater.unused_data[:2] == GZIP_MAGIC else b""
    return b"".join(parts)


def _from_brotli(body: bytes) -> bytes:
    decompressor = brotli.Decompressor()
    inflated, rest = b"", body
    try:
        while not decompressor.is_finished():
            # The limit is soft: a little more may come out at once.
            part = decompressor.process(rest, output_buffer_limit=INFLATED_BYTES_MAX + 1 - len(inflated))
            if not part and not rest:
                break  # It ends before its end; what it has is all that a client would have.
            rest = b""
            inflated += part
            if len(inflated) > INFLATED_BYTES_MAX:
                raise _too_large()
    except brotli.error:
        pass
    return inflated or body


def _from_zstd(body: bytes) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX).stream_reader(
        body, read_across_frames=True
    )
    try:
        inflated = reader.read(INFLATED_BYTES_MAX + 1)
    except zstandard.ZstdError:
        return body
    if len(inflated) > INFLATED_BYTES_MAX:
        raise _too_large()
    return inflated


def _too_large() -> Unreadable:
    return Unreadable(f"the body inflates to more than {INFLATED_BYTES_MAX:,} bytes")
