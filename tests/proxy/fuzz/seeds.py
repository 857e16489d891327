"""What fuzzing begins with: the tables of bad inputs as inputs of scenes, and a dictionary of what to splice in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.proxy.fuzz.mutations import SPLICES
from tests.proxy.fuzz.scene import BLOCKED, EARLY, HASTY, input_of
from tests.proxy.inputs.answers_table import ANSWERS
from tests.proxy.inputs.case import chunked, got, posted
from tests.proxy.inputs.requests_framing import FRAMING
from tests.proxy.inputs.requests_heads import HEADS
from tests.proxy.inputs.requests_more import MORE

REQUESTS: Final = (*FRAMING, *HEADS, *MORE)
BYTES_MAX: Final = 2048
_THEN: Final = {"stays": b"\0,", "closes": b"\0.", "resets": b"\0!"}
_MARKS: Final = (b"\0|", b"\0,", b"\0.", b"\0!", b"\0?")
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
    body, pieces = posted(b"Content-Length: 10", body=b"hello\0,world"), chunked(b"5\r\nhel\0,lo\r\n0\r\n\r\n")
    for flags in range((EARLY | HASTY | BLOCKED) + 1):
        yield input_of(body + pieces + got(), flags=flags)
        yield input_of(body, flags=flags, steps=(1, 1))
    for end in (b"\0.", b"\0!"):
        yield input_of(posted(b"Content-Length: 10", body=b"hello" + end))
        yield input_of(got() + end, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf\0,")
    # The second answer never comes on a connection that served before, so a GET is sent again and a POST is not.
    for again in (got(), pieces):
        yield input_of(got() + again, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\0,\0.")
    yield input_of(got() + got(), b"\0?")


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
