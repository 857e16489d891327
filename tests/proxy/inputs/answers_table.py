"""Inputs 52 to 60: answers of an upstream, and others beyond the list."""

from __future__ import annotations

from tests.proxy.inputs.case import LAST, AnswerCase, answered

_BODY, _CODING, _LENGTH = "RFC 9112 6.3", "RFC 9112 6.1", "RFC 9112 6.2"
_CHUNK, _TRAILER, _LINE, _VERSION = "RFC 9112 7.1", "RFC 9112 7.1.2", "RFC 9112 4", "RFC 9112 2.3"
_INTERIM, _SWITCH, _LINE_END, _FIELD = "RFC 9110 15.2", "RFC 9110 15.2.2", "RFC 9112 2.2", "RFC 9112 5"
_CUT = "RFC 9112 8"
_FIVE = b"Content-Length: 5"
_CHUNKED = b"Transfer-Encoding: chunked"
_HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
_EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

LISTED: tuple[AnswerCase, ...] = (
    AnswerCase("52", "length then chunked", _BODY, answered(_FIVE, _CHUNKED, body=LAST)),
    AnswerCase("52", "chunked then length", _BODY, answered(_CHUNKED, _FIVE, body=LAST)),
    AnswerCase("53", "two lengths", _BODY, answered(_FIVE, b"Content-Length: 6", body=b"hello")),
    AnswerCase("53", "two equal lengths", _BODY, answered(_FIVE, _FIVE, body=b"hello")),
    AnswerCase("53", "list of lengths", _BODY, answered(b"Content-Length: 5, 5", body=b"hello")),
    AnswerCase(
        "54", "204 with a body", "RFC 9110 15.3.5", answered(_FIVE, body=b"hello", line=b"HTTP/1.1 204 No"), 204, b""
    ),
    AnswerCase(
        "54",
        "204 with an answer behind",
        "RFC 9110 15.3.5",
        answered(body=_EVIL, line=b"HTTP/1.1 204 No"),
        204,
        b"",
        gone=(b"evil",),
    ),
    AnswerCase(
        "54", "304 with a body", "RFC 9110 15.4.5", answered(_FIVE, body=b"hello", line=b"HTTP/1.1 304 Not"), 304, b""
    ),
    AnswerCase(
        "54",
        "HEAD with a body",
        "RFC 9110 9.3.2",
        answered(_FIVE, body=b"hello"),
        200,
        b"",
        method=b"HEAD",
        gone=(b"hello",),
    ),
    AnswerCase("55", "no length", _BODY, answered(body=b"hello"), 200, b"hello", then="closes"),
    AnswerCase("55", "no length and no body", _BODY, answered(), 200, b"", then="closes"),
    AnswerCase(
        "56",
        "reset at half its length",
        _CUT,
        answered(b"Content-Length: 10", body=b"hello"),
        200,
        b"hello",
        then="resets",
        breaks_off=True,
    ),
    AnswerCase(
        "56",
        "end at half its length",
        _CUT,
        answered(b"Content-Length: 10", body=b"hello"),
        200,
        b"hello",
        then="closes",
        breaks_off=True,
    ),
    AnswerCase(
        "56",
        "reset between chunks",
        _CUT,
        answered(_CHUNKED, body=b"5\r\nhello\r\n"),
        200,
        b"hello",
        then="resets",
        breaks_off=True,
    ),
    AnswerCase(
        "56",
        "end before the last line",
        _CUT,
        answered(_CHUNKED, body=b"5\r\nhello\r\n0\r\n"),
        200,
        b"hello",
        then="closes",
        breaks_off=True,
    ),
    AnswerCase(
        "57", "1000 interim answers", _INTERIM, _HINT * 1000 + answered(_FIVE, body=b"hello"), interims=(103,) * 16
    ),
    AnswerCase(
        "57",
        "16 interim answers",
        _INTERIM,
        _HINT * 16 + answered(_FIVE, body=b"hello"),
        200,
        b"hello",
        interims=(103,) * 16,
        reuses=True,
    ),
    AnswerCase(
        "58", "101 unasked", _SWITCH, answered(b"Upgrade: x", b"Connection: upgrade", line=b"HTTP/1.1 101 Switching")
    ),
    AnswerCase("59", "head of 1 MiB", "RFC 9110 5.4", answered(b"X: " + b"a" * (1 << 20))),
    AnswerCase("59", "head of 64 KiB and 1", "RFC 9110 5.4", answered(b"X: " + b"a" * ((64 << 10) - 24 + 1))),
    AnswerCase(
        "59",
        "head of 64 KiB",
        "RFC 9110 5.4",
        answered(b"Content-Length: 0", b"X: " + b"a" * ((64 << 10) - 43)),
        200,
        b"",
        reuses=True,
    ),
    AnswerCase(
        "60", "CR in a value", _LINE_END, answered(b"X: a\rSet-Cookie: b", b"Content-Length: 0"), gone=(b"Set-Cookie",)
    ),
    AnswerCase(
        "60", "LF in a value", _LINE_END, answered(b"X: a\nSet-Cookie: b", b"Content-Length: 0"), gone=(b"Set-Cookie",)
    ),
    AnswerCase("60", "NUL in a value", "RFC 9110 5.5", answered(b"X: a\x00b", b"Content-Length: 0")),
    AnswerCase(
        "60",
        "answer injected in a value",
        _LINE_END,
        answered(b"X: a\r\n\r\n" + _EVIL),
        200,
        _EVIL + b"\r\n\r\n",
        then="closes",
    ),
)

HEADS: tuple[AnswerCase, ...] = (
    AnswerCase("", "minus length", _LENGTH, answered(b"Content-Length: -5", body=b"hello")),
    AnswerCase("", "plus length", _LENGTH, answered(b"Content-Length: +5", body=b"hello")),
    AnswerCase("", "empty length", _LENGTH, answered(b"Content-Length:", body=b"hello")),
    AnswerCase("", "length of twenty digits", _BODY, answered(b"Content-Length: 18446744073709551621", body=b"hello")),
    AnswerCase("", "gzip coding", _CODING, answered(b"Transfer-Encoding: gzip", body=b"hello")),
    AnswerCase("", "gzip then chunked", _CODING, answered(b"Transfer-Encoding: gzip, chunked", body=LAST)),
    AnswerCase("", "chunked twice", _CODING, answered(_CHUNKED, _CHUNKED, body=LAST)),
    AnswerCase("", "chunked on 1.0", _CODING, answered(_CHUNKED, body=LAST, line=b"HTTP/1.0 200 OK")),
    AnswerCase("", "two status lines", _LINE, b"HTTP/1.1 200 OK\r\n" + answered(_FIVE, body=b"hello")),
    AnswerCase("", "version 1.2", _VERSION, answered(_FIVE, body=b"hello", line=b"HTTP/1.2 200 OK")),
    AnswerCase("", "version 2", _VERSION, answered(line=b"HTTP/2 200")),
    AnswerCase("", "frames of HTTP 2", "RFC 9113 4.1", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    AnswerCase("", "HTTP 0.9", _LINE, b"<html>hello</html>", then="closes"),
    AnswerCase("", "lower-case version", _VERSION, answered(line=b"http/1.1 200 OK")),
    AnswerCase("", "status of four digits", _LINE, answered(line=b"HTTP/1.1 2000 OK")),
    AnswerCase("", "status of two digits", _LINE, answered(line=b"HTTP/1.1 20 OK")),
    AnswerCase("", "status 099", _LINE, answered(line=b"HTTP/1.1 099 OK")),
    AnswerCase("", "status with a sign", _LINE, answered(line=b"HTTP/1.1 +20 OK")),
    AnswerCase("", "two spaces before the status", _LINE, answered(line=b"HTTP/1.1  200 OK")),
    AnswerCase("", "LF alone", _LINE_END, b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    AnswerCase("", "space before the first field", _LINE_END, b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\nhello"),
    AnswerCase("", "folded field", "RFC 9112 5.2", answered(b"X: a\r\n b", _FIVE, body=b"hello")),
    AnswerCase("", "space before a colon", "RFC 9112 5.1", answered(b"Content-Length : 5", body=b"hello")),
    AnswerCase("", "field without a colon", _FIELD, answered(b"nothing", _FIVE, body=b"hello")),
    AnswerCase(
        "",
        "Connection lists the length",
        "RFC 9110 7.6.1",
        answered(_FIVE, b"Connection: content-length", body=b"hello"),
    ),
    AnswerCase("", "half a head", _CUT, b"HTTP/1.1 200 OK\r\nX: ", then="closes"),
    AnswerCase("", "no answer", _CUT, b"", then="closes"),
    AnswerCase("", "interim answer alone", _INTERIM, _HINT, then="closes", interims=(103,)),
    AnswerCase(
        "",
        "no reason and no space",
        _LINE,
        answered(_FIVE, body=b"hello", line=b"HTTP/1.1 200"),
        200,
        b"hello",
        reuses=True,
    ),
    AnswerCase(
        "",
        "reason beyond ASCII",
        _LINE,
        answered(_FIVE, body=b"hello", line=b"HTTP/1.1 200 \xe4"),
        200,
        b"hello",
        reuses=True,
    ),
    AnswerCase(
        "",
        "status nobody knows",
        _LINE,
        answered(_FIVE, body=b"hello", line=b"HTTP/1.1 799 Odd"),
        799,
        b"hello",
        reuses=True,
    ),
    AnswerCase("", "HTTP 1.0", _VERSION, answered(_FIVE, body=b"hello", line=b"HTTP/1.0 200 OK"), 200, b"hello"),
    AnswerCase(
        "",
        "HTTP 1.0 that is kept",
        "RFC 9112 9.3",
        answered(_FIVE, b"Connection: keep-alive", body=b"hello", line=b"HTTP/1.0 200 OK"),
        200,
        b"hello",
        reuses=True,
    ),
    AnswerCase(
        "",
        "connection of the upstream closes",
        "RFC 9112 9.6",
        answered(_FIVE, b"Connection: close", body=b"hello"),
        200,
        b"hello",
    ),
    AnswerCase(
        "",
        "fields for one hop",
        "RFC 9110 7.6.1",
        answered(
            _FIVE, b"Connection: X-Hop", b"X-Hop: 1", b"Keep-Alive: 5", b"X-Shadow-Request: forged", body=b"hello"
        ),
        200,
        b"hello",
        reuses=True,
        gone=(b"X-Hop", b"Keep-Alive", b"forged"),
    ),
)

BODIES: tuple[AnswerCase, ...] = (
    AnswerCase(
        "", "bytes behind its length", _BODY, answered(_FIVE, body=b"hello" + _EVIL), 200, b"hello", gone=(b"evil",)
    ),
    AnswerCase(
        "",
        "bytes behind the last chunk",
        _CHUNK,
        answered(_CHUNKED, body=b"5\r\nhello\r\n" + LAST + _EVIL),
        200,
        b"hello",
        gone=(b"evil",),
    ),
    AnswerCase(
        "",
        "bad size of the first chunk",
        _CHUNK,
        answered(_CHUNKED, body=b"zz\r\nhello\r\n"),
        200,
        b"",
        breaks_off=True,
    ),
    AnswerCase(
        "",
        "bad size of a later chunk",
        _CHUNK,
        answered(_CHUNKED, body=b"5\r\nhello\r\n-1\r\n"),
        200,
        None,
        breaks_off=True,
    ),
    AnswerCase(
        "", "space behind a size", _CHUNK, answered(_CHUNKED, body=b"5 \r\nhello\r\n" + LAST), 200, b"", breaks_off=True
    ),
    AnswerCase(
        "", "LF behind a size", _CHUNK, answered(_CHUNKED, body=b"5\nhello\r\n" + LAST), 200, b"", breaks_off=True
    ),
    AnswerCase(
        "",
        "data longer than its size",
        _CHUNK,
        answered(_CHUNKED, body=b"4\r\nhello\r\n" + LAST),
        200,
        None,
        breaks_off=True,
    ),
    AnswerCase(
        "",
        "length in a trailer",
        _TRAILER,
        answered(_CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 1\r\n\r\n"),
        200,
        None,
        breaks_off=True,
    ),
    AnswerCase(
        "",
        "hop-by-hop trailer",
        _TRAILER,
        answered(_CHUNKED, body=b"5\r\nhello\r\n0\r\nKeep-Alive: 1\r\n\r\n"),
        200,
        b"hello",
        reuses=True,
        gone=(b"Keep-Alive",),
    ),
    AnswerCase(
        "",
        "size of sixteen digits",
        _CHUNK,
        answered(_CHUNKED, body=b"0" * 15 + b"5\r\nhello\r\n" + LAST),
        200,
        b"hello",
        reuses=True,
    ),
    AnswerCase(
        "", "chunked answer to HEAD", "RFC 9110 9.3.2", answered(_CHUNKED), 200, b"", method=b"HEAD", reuses=True
    ),
)

ANSWERS = LISTED + HEADS + BODIES
