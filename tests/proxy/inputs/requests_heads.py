"""Inputs 29 to 46: request lines and header fields, good ones beside bad ones."""

from __future__ import annotations

from tests.proxy.inputs.case import Case, Seen, got, passed, posted, refused

_HOST, _TARGET, _METHOD, _LINE = "RFC 9112 3.2", "RFC 9112 3.2", "RFC 9112 3.1", "RFC 9112 3"
_ABSOLUTE, _ASTERISK = "RFC 9112 3.2.2", "RFC 9112 3.2.4"
_VERSION, _CONNECTION, _NAME = "RFC 9112 2.3", "RFC 9110 7.6.1", "RFC 9110 5.1"
_EXPECT, _UPGRADE, _EMPTY = "RFC 9110 10.1.1", "RFC 9110 7.8", "RFC 9112 2.2"
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

TARGETS: tuple[Case, ...] = (
    refused("29", "no host", _HOST, got(host=b"")),
    refused("29", "two hosts", _HOST, got(b"Host: b")),
    refused("29", "two equal hosts", _HOST, got(b"Host: a")),
    refused("29", "host with a space", _HOST, got(host=b"Host: a b\r\n")),
    refused("29", "host with userinfo", "RFC 9110 7.2", got(host=b"Host: u@a\r\n")),
    passed(
        "30",
        "other host in the target",
        _ABSOLUTE,
        got(target=b"http://b:81/x?y=1"),
        Seen(b"GET", b"/x?y=1"),
        lines=(b"Host: b:81",),
        gone=(b"host: a\r\n",),
    ),
    passed("30", "no path in the target", _ABSOLUTE, got(target=b"http://b"), Seen(b"GET", b"/"), lines=(b"Host: b",)),
    refused("30", "no host beside an absolute target", _HOST, got(host=b"", target=b"http://b/")),
    refused("31", "CONNECT", "RFC 9112 3.2.3", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    refused("32", "asterisk with GET", _ASTERISK, got(target=b"*")),
    passed("32", "asterisk with OPTIONS", _ASTERISK, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Seen(b"OPTIONS", b"*")),
    refused("33", "no slash", _TARGET, got(target=b"index.html")),
    refused("33", "query alone", _TARGET, got(target=b"?a=b")),
    refused("34", "space in the target", _LINE, got(target=b"/a b")),
    refused("34", "NUL in the target", _LINE, got(target=b"/a\x00b")),
    refused("34", "escape in the target", _LINE, got(target=b"/a\x1bb")),
    refused("35", "target of 8 KiB and 1", "RFC 9110 15.5.15", got(target=b"/" + b"a" * 8192), 414),
    passed("35", "target of 8 KiB", _LINE, got(target=b"/" + b"a" * 8191), Seen(b"GET", b"/" + b"a" * 8191)),
)

SIZES: tuple[Case, ...] = (
    refused("36", "32 KiB and 1 of headers", "RFC 6585 5", got(b"X: " + b"a" * ((32 << 10) - 31 + 1)), 431),
    passed("36", "32 KiB of headers", "RFC 9110 5.4", got(b"X: " + b"a" * ((32 << 10) - 32)), Seen(b"GET")),
    refused("36", "101 fields", "RFC 6585 5", got(*[b"X-%d: a" % n for n in range(100)]), 431),
    passed("36", "100 fields", "RFC 9110 5.4", got(*[b"X-%d: a" % n for n in range(99)]), Seen(b"GET")),
)

VERSIONS: tuple[Case, ...] = (
    refused("37", "HTTP 0.9", _LINE, b"GET /\r\n\r\n"),
    refused("37", "HTTP 1.10", _VERSION, got(version=b"HTTP/1.10"), 505),
    refused("37", "HTTP 2.0", _VERSION, got(version=b"HTTP/2.0"), 505),
    refused("37", "preface of HTTP 2", "RFC 9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("38", "lower-case method", _METHOD, b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    refused("38", "method of 40 letters", _METHOD, b"A" * 40 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
)

CONNECTIONS: tuple[Case, ...] = (
    Case(
        "39",
        "lists a field and close",
        _CONNECTION,
        got(b"Connection: close, X-Auth", b"X-Auth: 1", b"X-Kept: 2"),
        (200,),
        (Seen(b"GET"),),
        lines=(b"X-Kept: 2",),
        gone=(b"x-auth", b"connection:"),
    ),
    refused("39", "lists the length", _CONNECTION, posted(b"Connection: Content-Length", b"Content-Length: 0")),
    refused("39", "lists close and the host", _CONNECTION, got(b"Connection: close, Host")),
    refused("39", "lists the coding", _CONNECTION, got(b"Connection: transfer-encoding")),
    refused("40", "X_Forwarded_For", _NAME, got(b"X_Forwarded_For: 1.2.3.4")),
    refused("40", "Content_Length", _NAME, got(b"Content_Length: 5")),
    passed(
        "41",
        "spoofed fields of ours",
        _NAME,
        got(b"X-Shadow: 1", b"X-Shadow-Role: candidate", b"x-shadow-request-id: 7", b"X-Shadow-Request: 0-7"),
        Seen(b"GET"),
        gone=(b"x-shadow",),
    ),
    passed(
        "41",
        "ids that cannot be kept",
        _NAME,
        got(b"X-Request-Id: " + b"z" * 129, b"traceparent: 00-zz-1-1", b"tracestate: a=b"),
        Seen(b"GET"),
        gone=(b"zzz", b"00-zz", b"tracestate"),
    ),
    passed(
        "41",
        "ids that are kept",
        _NAME,
        got(b"X-Request-Id: mine", b"traceparent: " + _TRACE.encode()),
        Seen(b"GET"),
        lines=(b"X-Request-Id: mine", b"traceparent: " + _TRACE.encode()),
    ),
    passed(
        "42",
        "continue expected",
        _EXPECT,
        posted(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
        Seen(b"POST", body=b"hello"),
        lines=(b"Expect: 100-continue",),
    ),
    refused("42", "other expectation", _EXPECT, posted(b"Expect: 200-ok", b"Content-Length: 0"), 417),
    passed(
        "43",
        "h2c",
        _UPGRADE,
        got(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        Seen(b"GET"),
        gone=(b"upgrade", b"h2c", b"http2-settings"),
    ),
    passed(
        "43",
        "h2c not listed by Connection",
        _UPGRADE,
        got(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        Seen(b"GET"),
        gone=(b"upgrade", b"h2c", b"http2-settings"),
    ),
)

FOREIGN: tuple[Case, ...] = (
    refused("44", "TLS hello", _LINE, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)),
    refused("45", "PROXY v1", _LINE, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + got()),
    refused("45", "PROXY v2", _LINE, b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + got()),
    passed("46", "two empty lines", _EMPTY, b"\r\n\r\n" + got(), Seen(b"GET")),
    refused("46", "three empty lines", _EMPTY, b"\r\n\r\n\r\n" + got()),
)

HEADS = TARGETS + SIZES + VERSIONS + CONNECTIONS + FOREIGN
