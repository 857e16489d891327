"""Mutations of messages: bytes spliced with what readers of HTTP/1 stumble over, and whole lines that are moved."""

from __future__ import annotations

import random
import re
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


FIELDS: Final = (
    b"X: 1\r\n",
    b"X-Request-Id: mine\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: X\r\n",
    b"Expect: 100-continue\r\n",
    b"Forwarded: for=1.2.3.4\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\n",
)
_WORDS: Final = (
    (
        re.compile(rb"\b(?:GET|HEAD|POST|PUT|DELETE|OPTIONS)\b"),
        (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"PATCH"),
    ),
    (re.compile(rb"HTTP/1\.[01]"), (b"HTTP/1.0", b"HTTP/1.1")),
    (re.compile(rb"(?<=HTTP/1\.[01] )[0-9]{3}"), (b"100", b"101", b"103", b"200", b"204", b"205", b"304", b"500")),
    (re.compile(rb"(?<=: )[0-9]+"), (b"0", b"1", b"5", b"10", b"300")),
)


def with_lines_moved(raw: bytes, chance: random.Random) -> bytes:
    """The message with a word changed for another of its kind, or a line put in, taken out, doubled or moved."""
    pattern, words = chance.choice(_WORDS)
    found = list(pattern.finditer(raw))
    if found and chance.random() < 0.5:
        match = chance.choice(found)
        return raw[: match.start()] + chance.choice(words) + raw[match.end() :]
    lines = re.split(rb"(?<=\r\n)", raw)
    at, to = chance.randrange(len(lines)), chance.randrange(len(lines) + 1)
    match chance.randrange(4):
        case 0 | 1:
            lines.insert(to, chance.choice(FIELDS))
        case 2:
            lines.insert(to, lines[at])
        case _:
            del lines[at]
    return b"".join(lines)
