"""Seeded mutations of the corpus: cut, doubled, swapped and spliced with what readers of HTTP/1 stumble over."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

SPLICES: Final = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\x00",
    b"\x0b",
    b"\xff",
    b":",
    b",",
    b";",
    b"_",
    b"-",
    b"+",
    b"0",
    b"5",
    b"f",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"Host: b\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.0",
    b"HEAD",
    b"http://b",
)


def mutations(corpus: Sequence[bytes], count: int, *, seed: int) -> Iterator[bytes]:
    """So many mutations, the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        raw = bytearray(chance.choice(corpus))
        if chance.random() < 0.3:
            raw += chance.choice(corpus)
        for _ in range(chance.randint(1, 3)):
            _mutate(chance, raw)
        yield bytes(raw)


def _mutate(chance: random.Random, raw: bytearray) -> None:
    at = chance.randrange(len(raw) + 1)
    to = min(len(raw), at + chance.randint(1, 8))
    match chance.randrange(5):
        case 0 | 1:
            raw[at:at] = chance.choice(SPLICES)
        case 2:
            del raw[at:to]
        case 3:
            raw[at:at] = raw[at:to]
        case _ if at < len(raw):
            raw[at] = chance.randrange(256)
