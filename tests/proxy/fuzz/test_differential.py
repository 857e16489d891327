"""The proxy's reader beside h11 and llhttp: whenever the proxy accepts, all three found the same messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.proxy.fuzz.accepted import Accepted, accepted
from tests.proxy.fuzz.memory import MemoryLoop, memory_loop
from tests.proxy.fuzz.mutations import mutations
from tests.proxy.fuzz.promises import in_origin_form
from tests.proxy.fuzz.readers import Reading, by_h11, by_llhttp
from tests.proxy.fuzz.seeds import REQUESTS
from tests.proxy.inputs.case import LAST, Case, Seen, chunked, each, got

READERS = {"h11": by_h11, "llhttp": by_llhttp}


@dataclass(frozen=True, slots=True)
class Difference:
    """What the proxy takes and another reader refuses.

    Args:
        marks: Matches the bytes that make the difference.
        example: Bytes that show it.
        forwarded: What the proxy forwards of the example.
        reason: Why the proxy may take it.
    """

    reader: str
    marks: re.Pattern[bytes]
    example: bytes
    forwarded: tuple[Seen, ...]
    reason: str


DIFFERENCES = (
    Difference(
        "llhttp",
        re.compile(rb"\r\n[0-9A-Fa-f]{1,16};[^\r\n]*\r\n"),
        chunked(b'5;a=b"c\r\nhello\r\n' + LAST),
        (Seen(b"POST", b"/", b"hello"),),
        "llhttp checks that a chunk extension is a name with a token or a quoted string as its value (RFC 9112 7.1.1);"
        " the proxy reads none and passes none on, so nobody behind it can read one differently",
    ),
    Difference(
        "llhttp",
        re.compile(rb"\r\n0+(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*?(?i:connection|proxy-connection):"),
        chunked(b"0\r\nConnection: close\r\n\r\n") + got(),
        (Seen(b"POST"), Seen(b"GET")),
        "llhttp obeys Connection in a trailer, where it must not stand (RFC 9110 6.5.1), and ends; the proxy drops it"
        " and passes none on, so llhttp behind it does not end",
    ),
    Difference(
        "llhttp",
        re.compile(rb"(?i)\r\nproxy-connection:[^\r\n]*close"),
        got(b"Proxy-Connection: close") + got(),
        (Seen(b"GET"), Seen(b"GET")),
        "llhttp ends after `Proxy-Connection: close`, which no RFC defines (RFC 9112 C.2.2); the proxy passes none on,"
        " so llhttp behind it does not end",
    ),
    Difference(
        "llhttp",
        re.compile(rb"(?i)\r\nupgrade:"),
        got(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 5") + b"hello",
        (Seen(b"GET", b"/", b"hello"),),
        "llhttp takes what follows the head of a request to upgrade for the other protocol, body or not; the"
        " proxy offers no upgrade of a request with a body upstream (RFC 9110 7.8), so llhttp behind it reads the body",
    ),
)


@pytest.fixture(scope="module")
def loop() -> Iterator[MemoryLoop]:
    """One loop for all messages of this file."""
    with memory_loop() as ready:
        yield ready


def agrees(reading: Reading, taken: Accepted) -> bool:
    """Whether another reader found the forwarded requests, and no more unless the proxy refused what followed."""
    found = [in_origin_form(seen) for seen in reading.messages]
    return taken.messages == (found[: len(taken.messages)] if taken.is_refused else found)


def differs(sent: bytes, loop: MemoryLoop) -> list[str]:
    """The readers that do not agree, without those whose difference is in the table."""
    taken = accepted(sent, loop)
    return [
        name
        for name, read in READERS.items()
        if not agrees(read(sent), taken)
        and not any(known.reader == name and known.marks.search(sent) for known in DIFFERENCES)
    ]


@pytest.mark.parametrize("case", each(REQUESTS))
def test_p11_three_readers_agree_on_the_corpus(loop: MemoryLoop, case: Case):
    """
    Of every request of the tables, what the proxy forwards is what h11 and llhttp read in the client's bytes.
    """
    assert [] == differs(case.sent, loop)


@pytest.mark.parametrize("seed", range(4))
def test_p11_three_readers_agree_on_mutations(loop: MemoryLoop, seed: int):
    """
    Of 1,000 mutations of the tables each has the same messages for all three, as far as the proxy accepts it.
    """
    corpus = [case.sent for case in REQUESTS if len(case.sent) < 1000]
    for sent in mutations(corpus, 1000, seed=seed):
        assert [] == differs(sent, loop), sent


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_p11_three_readers_agree_on_a_million_mutations(loop: MemoryLoop):
    """
    The same for a million mutations.
    """
    corpus = [case.sent for case in REQUESTS if len(case.sent) < 1000]
    for sent in mutations(corpus, 1_000_000, seed=1000):
        assert [] == differs(sent, loop), sent


@pytest.mark.parametrize(
    "known", DIFFERENCES, ids=["extension", "connection-in-a-trailer", "proxy-connection", "upgrade-with-a-body"]
)
def test_every_difference_in_the_table_is_one(loop: MemoryLoop, known: Difference):
    """
    The proxy forwards of the example what the table says, and the reader named does not find that.
    """
    taken = accepted(known.example, loop)
    assert (list(known.forwarded), False) == (taken.messages, taken.is_refused)
    assert not agrees(READERS[known.reader](known.example), taken)
