"""The text of an answer, whatever dialect and encoding it comes in."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from functools import partial

import brotli
import pytest
import zstandard

from shadow.bodies import Unreadable, inflated
from tests.graders.answers import answer, chat, request

# Without a time the bytes, and with them the tests' names, are the same in every process that collects them.
gzipped = partial(gzip.compress, mtime=0)

EVENTS = b"""data: {"choices":[{"delta":{"role":"assistant"}}]}\r
\r
data: {"choices":[{"delta":{"content":"Hel"}}]}

: a comment
data: {"choices":[{"delta":{"content":"lo"}}]}

data: {"choices":[],"usage":{"prompt_tokens":1}}

data: [DONE]

"""


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat("Hello"), "Hello"),
        (chat(None), ""),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "image"}]}}]}, "a"),
        ({"choices": [{"text": "completion"}]}, "completion"),
        ({"answer": "a", "text": "t"}, "a"),
        ({"text": "t", "output": "o"}, "t"),
        ({"output": "o"}, "o"),
        ({"answer": 8}, '{"answer":8}'),
        ({"choices": []}, '{"choices":[]}'),
        ({"choices": [{"message": 3}]}, ""),
        (b'"a \\u00fc"', "a ü"),
        (b"plain \xc3\xbc", "plain ü"),
        (b"", ""),
        (b"[1, 2]", "[1, 2]"),
        (EVENTS, "Hello"),
        (b'data: {"type":"response.output_text.delta","delta":"Hi"}\n\n', "Hi"),
    ],
)
def test_text_of_an_answer(body, text):
    """
    The text is the message's content, the pieces of a stream, a named field, or the whole body.
    """
    assert text == answer(body).text()


def test_text_of_a_stream_by_its_type():
    """
    What its header calls a stream is read as one, also where it begins with a comment or sends no JSON.
    """
    headers = {"content-type": "text/event-stream; charset=utf-8"}

    assert "Hello" == answer(b": ping\n\n" + EVENTS, headers=headers).text()
    assert "plain words" == answer(b"data: plain words\n\ndata: [DONE]\n", headers=headers).text()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzipped(b'{"answer":"a"}')),
        ("GZIP", gzipped(b'{"answer":') + gzipped(b'"a"}')),
        ("deflate", zlib.compress(b'{"answer":"a"}')),
        ("deflate", zlib.compress(b'{"answer":"a"}')[2:-4]),
        ("identity", b'{"answer":"a"}'),
        ("gzip, gzip", gzipped(gzipped(b'{"answer":"a"}'))),
        ("br", brotli.compress(b'{"answer":"a"}')),
        ("zstd", zstandard.compress(b'{"answer":"a"}')),
        ("zstd", zstandard.compress(b'{"answer"') + zstandard.compress(b':"a"}')),
        ("gzip, zstd, br", brotli.compress(zstandard.compress(gzipped(b'{"answer":"a"}')))),
    ],
)
def test_compressed_text(encoding, body):
    """
    gzip in all its members, deflate of both kinds, brotli, zstd in all its frames, and one in another are undone.
    """
    assert "a" == answer(body, headers={"content-encoding": encoding}).text()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", lambda data: gzip.compress(data, 9)), ("br", brotli.compress), ("zstd", zstandard.compress)],
)
def test_input_63_bomb(encoding, compress):
    """
    A hundred megabytes of zeros are not inflated beyond one, and one of exactly one is.
    """
    bomb = compress(bytes(100 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="inflates to more than 1,048,576 bytes"):
            inflated(bomb, {"content-encoding": encoding})
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert bytes(1 << 20) == inflated(compress(bytes(1 << 20)), {"content-encoding": encoding})


def test_input_64_many_layers():
    """
    Four encodings in one another, and one that is not read, are refused with their names.
    """
    for encoding, words in (
        ("gzip, gzip, br, gzip", "encoded 4 times"),
        ("compress", "encoded as 'compress'"),
        ("x", "'x'"),
    ):
        with pytest.raises(Unreadable, match=words):
            answer(b"x", headers={"content-encoding": encoding}).text()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, deflate", "br", "zstd", "zstd, br"])
def test_input_65_lying_encoding(encoding):
    """
    A body that is not encoded as it says is taken as it is.
    """
    assert "plain" == answer(b"plain", headers={"content-encoding": encoding}).text()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"a\xffb", "a\N{REPLACEMENT CHARACTER}b"),
        (b"\xff\xfea\x00b\x00", "ab"),
        (b"\xfe\xff\x00a\x00b", "ab"),
        (b'\xef\xbb\xbf{"answer":"a"}', "a"),
        (b'{"answer":"a\xff"}', '{"answer":"a\N{REPLACEMENT CHARACTER}"}'),
        (b"\xff\xfea", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_input_68_other_encodings(body, text):
    """
    Invalid UTF-8 is replaced, UTF-16 is read where its mark says so, and the mark of UTF-8 is no text.
    """
    assert text == answer(body).text()


def test_the_request_is_parsed_once():
    """
    Asked twice, an answer gives the same objects: nothing is parsed again.
    """
    graded = answer(chat("x" * 100), to=request({"a": [1]}))

    assert graded.text() is graded.text()
    assert graded.request_json() is graded.request_json()
    assert {"a": [1]} == graded.request_json()
    assert answer(b"", to=request(b"no JSON")).request_json() is None
