"""What fuzzing begins with: the tables of bad inputs as inputs of scenes, and a dictionary of what to splice in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.proxy.fuzz.mutations import SPLICES
from tests.proxy.fuzz.scene import SLUGGISH, input_of
from tests.proxy.inputs.answers_table import ANSWERS
from tests.proxy.inputs.case import LAST, answered, chunked, got, posted
from tests.proxy.inputs.requests_framing import FRAMING
from tests.proxy.inputs.requests_heads import HEADS
from tests.proxy.inputs.requests_more import MORE

REQUESTS: Final = (*FRAMING, *HEADS, *MORE)
BYTES_MAX: Final = 2048
_CHUNKED: Final = b"Transfer-Encoding: chunked"
_WEBSOCKET: Final = (b"Connection: Upgrade", b"Upgrade: websocket")
_SWITCHED: Final = b"HTTP/1.1 101 Switching Protocols"
_THEN: Final = {"stays": b"\0,", "closes": b"\0.", "resets": b"\0!"}
_MARKS: Final = (b"\0|", b"\0,", b"\0.", b"\0!", b"\0?", b"\0~")
_WORDS: Final = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"X-Request-Id: mine\r\n",
    b"X-Shadow-Request: 0-7\r\n",
    b"Via: 1.1 shadow-\r\n",
    b"POST / HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
)


def seeds() -> Iterator[bytes]:
    """Inputs that reach every state of both connections."""
    for case in REQUESTS:
        if len(case.sent) <= BYTES_MAX:
            yield input_of(case.sent)
    for answer in ANSWERS:
        if len(answer.sent) <= BYTES_MAX:
            yield input_of(got() + got(), answer.sent + _THEN[answer.then])
    body, pieces = posted(b"Content-Length: 10", body=b"hello\0,world"), chunked(b"5\r\nhel\0,lo\r\n0\r\nX: 1\r\n\r\n")
    for flags in range(2 * SLUGGISH):
        yield input_of(body + pieces + got(), flags=flags)
        yield input_of(body, flags=flags, steps=(1, 1))
        yield input_of(pieces, answered(_CHUNKED, body=b"5;a\r\nhello\r\n0\r\nX: 1\r\n\r\n"), flags=flags, steps=(1, 1))
        yield input_of(b"GET / HTTP/1.0\r\n\r\n\0.", answered(_CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), flags=flags)
        yield input_of(
            got(*_WEBSOCKET) + b"\0,frame\0,frame", answered(*_WEBSOCKET, line=_SWITCHED) + b"frame", flags=flags
        )
    for end in (b"\0.", b"\0!", b"\0~"):
        yield input_of(b"GET / HTTP/1.1\r\nHo" + end)
        yield input_of(posted(b"Content-Length: 10", body=b"hello" + end))
        yield input_of(got() + end, answered(b"Content-Length: 9", body=b"half\0,"))
        yield input_of(got() + end, b"\0,")
        yield input_of(got(*_WEBSOCKET) + end, answered(*_WEBSOCKET, line=_SWITCHED))
    yield input_of(chunked(b"".join(b"1\r\n%d\r\n" % digit for digit in range(9)) + LAST))
    yield input_of(b"HEAD x HTTP/1.1\r\nHost: a\r\n\r\n")
    yield input_of(got(*_WEBSOCKET, b"Content-Length: 0"), answered(*_WEBSOCKET, line=_SWITCHED))
    # The second answer never comes on a connection that served before, so a GET is sent again and a POST is not.
    for again in (got(), pieces):
        yield input_of(got() + again, answered(b"Content-Length: 0") + b"\0,\0.")
    yield input_of(got() + got(), b"\0?")
    yield input_of(
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n" + got(),
        answered(b"Content-Length: 0"),
    )
    yield input_of(
        posted(b"Content-Length: 600", body=b"a" * 600) + b"\0,", answered(b"Content-Length: 600", body=b"b" * 600)
    )
    yield input_of(got(b"Forwarded: for=1.2.3.4", b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https"))


def write_corpus(folder: Path) -> int:
    """Write the seeds as files; returns how many."""
    folder.mkdir()
    for number, seed in enumerate(seeds()):
        (folder / f"seed-{number:03d}").write_bytes(seed)
    return number + 1


def write_dictionary(path: Path) -> None:
    """Write the words in libFuzzer's format."""
    lines = ["".join(f"\\x{byte:02x}" for byte in word) for word in (*_MARKS, *SPLICES, *_WORDS)]
    path.write_text("".join(f'"{line}"\n' for line in lines))
