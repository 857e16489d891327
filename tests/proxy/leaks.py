"""Search bytes for secrets in whatever form they may have left in: plain, encoded, compressed, or all of that."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from urllib.parse import quote

_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_DEPTH_MAX = 3
_UNPACKED_BYTES_MAX = 16 << 20


def forms(secret: str) -> dict[str, bytes]:
    """What to look for, by the name of the form."""
    plain = secret.encode()
    found = {
        "plain": plain,
        "hex": plain.hex().encode(),
        "url": quote(secret, safe="").encode(),
        "every byte as in a URL": "".join(f"%{byte:02X}" for byte in plain).encode(),
        "json": json.dumps(secret)[1:-1].replace("/", "\\/").encode(),
        "utf-16": secret.encode("utf-16-le"),
    }
    for shift in range(3):
        found[f"base64 after {shift}"] = _base64_within(plain, shift)
        found[f"url-safe base64 after {shift}"] = _base64_within(plain, shift).translate(bytes.maketrans(b"+/", b"-_"))
    return found


def _base64_within(plain: bytes, shift: int) -> bytes:
    """The characters of base64 that are the same whatever stands before and behind.

    Each character is 6 bits: those that share a byte with a neighbour's are left out.
    """
    encoded = base64.b64encode(b"\0" * shift + plain + b"\0\0")
    return encoded[-(-shift * 8 // 6) : (shift + len(plain)) * 8 // 6]


def unpacked(blob: bytes, depth: int = 0) -> Iterator[bytes]:
    """The blob, and everything in it that gzip or zlib can read, to a depth of three."""
    yield blob
    if depth == _DEPTH_MAX:
        return
    for match in _PACKED.finditer(blob):
        reader = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
        try:
            content = reader.decompress(blob[match.start() :], _UNPACKED_BYTES_MAX)
        except zlib.error:
            continue  # it only looked like one
        if content:
            yield from unpacked(content, depth + 1)


def leaks(secrets: Mapping[str, str], sinks: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """(name of a secret, sink that it is found in) of every secret that is anywhere."""
    needles = {(name, form) for name, secret in secrets.items() for form in forms(secret).values()}
    return {
        (name, sink)
        for sink, blob in sinks.items()
        for content in unpacked(blob)
        for name, needle in needles
        if needle in content
    }
