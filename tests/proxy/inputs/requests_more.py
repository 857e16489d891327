"""Requests beyond the list of bad inputs, after the corpora of desync-guardian and HTTP Garden."""

from __future__ import annotations

from tests.proxy.inputs.case import HOST, LAST, Case, Seen, chunked, coded, got, passed, posted, refused, sized

_LENGTH, _CODING, _BODY = "RFC 9112 6.2", "RFC 9112 6.1", "RFC 9112 6.3"
_CHUNK, _EXTENSION, _TRAILER = "RFC 9112 7.1", "RFC 9112 7.1.1", "RFC 9112 7.1.2"
_LINE_END, _FIELD, _COLON = "RFC 9112 2.2", "RFC 9112 5", "RFC 9112 5.1"
_LINE, _TARGET, _HOST, _VERSION = "RFC 9112 3", "RFC 9112 3.2", "RFC 9110 7.2", "RFC 9112 2.3"
_URI = "RFC 3986 3.2"

LENGTHS: tuple[Case, ...] = (
    refused("", "length with a leading comma", _LENGTH, sized(b", 5")),
    refused("", "length with a trailing comma", _LENGTH, sized(b"5,")),
    refused("", "empty length", _LENGTH, sized(b"")),
    refused("", "length of spaces", _LENGTH, sized(b"   ")),
    refused("", "length in quotes", _LENGTH, sized(b'"5"')),
    refused("", "length with a fraction", _LENGTH, sized(b"5.0")),
    refused("", "length with an exponent", _LENGTH, sized(b"5e0")),
    refused("", "length with a parameter", _LENGTH, sized(b"5;a=b")),
    refused("", "length of zero and five", _BODY, posted(b"Content-Length: 0", b"Content-Length: 5", body=b"hello")),
    refused("", "tab before the colon of a length", _COLON, posted(b"Content-Length\t: 5", body=b"hello")),
    refused("", "NUL behind a length", _LENGTH, sized(b"5\x00")),
    passed("", "length with a leading zero", _LENGTH, sized(b"05"), Seen(b"POST", body=b"hello")),
    passed("", "length between tabs", _FIELD, sized(b"\t5\t"), Seen(b"POST", body=b"hello")),
    passed(
        "", "length without a space", _FIELD, posted(b"CONTENT-LENGTH:5", body=b"hello"), Seen(b"POST", body=b"hello")
    ),
    passed(
        "",
        "bytes behind a length are the next request",
        _BODY,
        sized(b"5", b"hello" + got(target=b"/next")),
        Seen(b"POST", body=b"hello"),
        Seen(b"GET", b"/next"),
    ),
    passed("", "GET with a body", "RFC 9110 9.3.1", got(b"Content-Length: 5") + b"hello", Seen(b"GET", body=b"hello")),
    passed("", "POST without a length", _BODY, posted() + got(target=b"/next"), Seen(b"POST"), Seen(b"GET", b"/next")),
)

CODINGS: tuple[Case, ...] = (
    refused("", "empty coding", _CODING, coded(b"")),
    refused("", "identity", _CODING, coded(b"identity")),
    refused("", "chunked in quotes", _CODING, coded(b'"chunked"')),
    refused("", "chunked with a parameter", _CODING, coded(b"chunked;q=1")),
    refused("", "chunked with a leading comma", _CODING, coded(b", chunked")),
    refused("", "chunked with a trailing comma", _CODING, coded(b"chunked,")),
    refused("", "chunked and a word", _CODING, coded(b"chunked foo")),
    refused("", "chunked cut by NUL", _CODING, coded(b"chunked\x00")),
    refused("", "chunked with a no-break space", _CODING, coded(b"\xa0chunked")),
    refused("", "coding with an underscore", _FIELD, posted(b"Transfer_Encoding: chunked", body=LAST)),
    passed("", "chunked behind a tab", _FIELD, coded(b"\tchunked"), Seen(b"POST")),
    passed(
        "", "chunked in upper case", _CODING, coded(b"CHUNKED", b"5\r\nhello\r\n" + LAST), Seen(b"POST", body=b"hello")
    ),
    passed("", "TE is not passed", "RFC 9110 10.1.4", got(b"TE: trailers, chunked"), Seen(b"GET"), gone=(b"\nte:",)),
)

CHUNKS: tuple[Case, ...] = (
    refused("", "space behind a size", _CHUNK, chunked(b"5 \r\nhello\r\n" + LAST)),
    refused("", "tab behind a size", _CHUNK, chunked(b"5\t\r\nhello\r\n" + LAST)),
    refused("", "space before a size", _CHUNK, chunked(b" 5\r\nhello\r\n" + LAST)),
    refused("", "empty size", _CHUNK, chunked(b"\r\nhello\r\n" + LAST)),
    refused("", "size that is no number", _CHUNK, chunked(b"g\r\nhello\r\n" + LAST)),
    refused("", "size with an underscore", _CHUNK, chunked(b"0_5\r\nhello\r\n" + LAST)),
    refused("", "size of full-width digits", _CHUNK, chunked("\uff15".encode() + b"\r\nhello\r\n" + LAST)),
    refused("", "size that ends in CR", _CHUNK, chunked(b"5\rhello\r\n" + LAST)),
    refused("", "bare CR in an extension", _EXTENSION, chunked(b"5;a\rb\r\nhello\r\n" + LAST)),
    refused("", "bare LF in an extension", _EXTENSION, chunked(b"5;a\nb\r\nhello\r\n" + LAST)),
    refused("", "NUL in an extension", _EXTENSION, chunked(b"5;\x00\r\nhello\r\n" + LAST)),
    refused("", "data longer than its size", _CHUNK, chunked(b"4\r\nhello\r\n" + LAST)),
    refused("", "LF CR behind the data", _CHUNK, chunked(b"5\r\nhello\n\r" + LAST)),
    refused("", "LF behind the last chunk", _CHUNK, chunked(b"0\r\n\n")),
    refused("", "bare LF in a trailer", _TRAILER, chunked(b"0\r\nX: b\n\r\n")),
    refused("", "folded trailer", _TRAILER, chunked(b"0\r\nX: a\r\n b\r\n\r\n")),
    refused("", "space before a trailer's colon", _COLON, chunked(b"0\r\nX : b\r\n\r\n")),
    refused("", "trailer without a colon", _TRAILER, chunked(b"0\r\nnothing\r\n\r\n")),
    refused("", "trailers beyond 8 KiB", _TRAILER, chunked(b"0\r\nX: " + b"a" * 8192 + b"\r\n\r\n")),
    passed(
        "",
        "size in capitals with zeros",
        _CHUNK,
        chunked(b"00A\r\n0123456789\r\n" + LAST),
        Seen(b"POST", body=b"0123456789"),
    ),
    passed(
        "",
        "size of sixteen digits",
        _CHUNK,
        chunked(b"0" * 15 + b"5\r\nhello\r\n" + LAST),
        Seen(b"POST", body=b"hello"),
    ),
    passed("", "quoted extension", _EXTENSION, chunked(b'5;a="b;c"\r\nhello\r\n' + LAST), Seen(b"POST", body=b"hello")),
    passed(
        "",
        "several zeros for the last chunk",
        _CHUNK,
        chunked(b"5\r\nhello\r\n000\r\n\r\n"),
        Seen(b"POST", body=b"hello"),
    ),
    passed("", "extension of the last chunk", _EXTENSION, chunked(b"0;a=b\r\n\r\n"), Seen(b"POST"), gone=(b"a=b",)),
    passed(
        "", "trailer that is kept", _TRAILER, chunked(b"0\r\nX-Sum: 7\r\n\r\n"), Seen(b"POST"), lines=(b"X-Sum: 7",)
    ),
    passed(
        "",
        "hop-by-hop trailer",
        _TRAILER,
        chunked(b"0\r\nConnection: close\r\nX-Shadow: 1\r\n\r\n"),
        Seen(b"POST"),
        gone=(b"close", b"x-shadow"),
    ),
    passed(
        "",
        "bytes behind the last chunk are the next request",
        _CHUNK,
        chunked(LAST + got(target=b"/next")),
        Seen(b"POST"),
        Seen(b"GET", b"/next"),
    ),
)

TARGETS: tuple[Case, ...] = (
    refused("", "userinfo in the target", _URI, got(target=b"http://u:p@b/")),
    refused("", "absolute target without a host", _URI, got(target=b"http:///x")),
    refused("", "absolute target with one slash", _TARGET, got(target=b"http:/b/x")),
    refused("", "absolute target with a backslash", _URI, got(target=b"http://b\\c/")),
    refused("", "port that is no number", _URI, got(target=b"http://b:x/")),
    refused("", "port of six digits", _URI, got(target=b"http://b:100000/")),
    refused("", "other scheme", _TARGET, got(target=b"ftp://b/x")),
    refused("", "authority as the target of GET", "RFC 9112 3.2.3", got(target=b"b:80")),
    refused("", "fragment", "RFC 9110 7.1", got(target=b"/a#b")),
    refused("", "fragment in an absolute target", "RFC 9110 7.1", got(target=b"http://b/#c")),
    refused("", "UTF-8 in the target", _TARGET, got(target="/ä".encode())),
    refused("", "tab in the target", _LINE, got(target=b"/a\tb")),
    passed("", "query behind the host", "RFC 9112 3.2.1", got(target=b"http://b?x=1"), Seen(b"GET", b"/?x=1")),
    passed(
        "",
        "absolute target of OPTIONS",
        "RFC 9112 3.2.4",
        b"OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n",
        Seen(b"OPTIONS", b"*"),
    ),
    passed("", "two slashes", _TARGET, got(target=b"//b/x"), Seen(b"GET", b"//b/x"), lines=(b"Host: a",)),
    passed(
        "",
        "dots and escapes are not touched",
        _TARGET,
        got(target=b"/a/../%2e%2E/%zz;b"),
        Seen(b"GET", b"/a/../%2e%2E/%zz;b"),
    ),
    passed("", "scheme in capitals", _TARGET, got(target=b"HTTP://b/"), Seen(b"GET", b"/"), lines=(b"Host: b",)),
)

HOSTS: tuple[Case, ...] = (
    refused("", "empty host", _HOST, got(host=b"Host:\r\n")),
    refused("", "host with a path", _HOST, got(host=b"Host: a/b\r\n")),
    refused("", "host with a port that is no number", _HOST, got(host=b"Host: a:b\r\n")),
    refused("", "host with two ports", _HOST, got(host=b"Host: a:1:2\r\n")),
    refused("", "host with an open bracket", _HOST, got(host=b"Host: [::1\r\n")),
    refused("", "host beyond ASCII", _HOST, got(host="Host: bücher\r\n".encode())),
    refused("", "host with a scheme", _HOST, got(host=b"Host: http://a\r\n")),
    refused("", "space before the colon of the host", _COLON, got(host=b"Host : a\r\n")),
    passed("", "host with a comma is a name", _URI, got(host=b"Host: a,b\r\n"), Seen(b"GET"), lines=(b"Host: a,b",)),
    passed(
        "",
        "host with a port out of range",
        _URI,
        got(host=b"Host: a:99999\r\n"),
        Seen(b"GET"),
        lines=(b"Host: a:99999",),
    ),
    passed("", "host of six", _URI, got(host=b"Host: [::1]:80\r\n"), Seen(b"GET"), lines=(b"Host: [::1]:80",)),
)

LINES: tuple[Case, ...] = (
    refused("", "space before the first field", _LINE_END, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    refused("", "space before the first field and a host", _LINE_END, b"GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n"),
    refused("", "field without a colon", _FIELD, got(b"nothing")),
    refused("", "line of spaces", _FIELD, b"GET / HTTP/1.1\r\nHost: a\r\n  \r\n\r\n"),
    refused("", "space in a name", _COLON, got(b"X Y: 1")),
    refused("", "comma in a name", _FIELD, got(b"X,Y: 1")),
    refused("", "lower-case version", _VERSION, got(version=b"http/1.1")),
    refused("", "space behind the version", _LINE, got(version=b"HTTP/1.1 ")),
    refused("", "space in the version", _VERSION, got(version=b"HTTP /1.1")),
    refused("", "version 1.2", _VERSION, got(version=b"HTTP/1.2"), 505),
    refused("", "version 01.1", _VERSION, got(version=b"HTTP/01.1"), 505),
    refused("", "version 1", _VERSION, got(version=b"HTTP/1"), 505),
    refused("", "version with a comma", _VERSION, got(version=b"HTTP/1,1")),
    refused("", "no version", _LINE, b"GET / \r\nHost: a\r\n\r\n"),
    refused("", "two spaces before the target", _LINE, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("", "two spaces before the version", _LINE, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("", "tab before the target", _LINE, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("", "tab before the version", _LINE, b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("", "space before the method", _LINE, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("", "quote in the method", "RFC 9110 5.6.2", b'G"ET / HTTP/1.1\r\nHost: a\r\n\r\n'),
    refused("", "byte order mark", _LINE, b"\xef\xbb\xbf" + got()),
    refused("", "empty lines of LF", _LINE_END, b"\n\n" + got()),
    refused("", "empty line of CR", _LINE_END, b"\r" + got()),
    refused("", "answer instead of a request", _LINE, b"HTTP/1.1 200 OK\r\nHost: a\r\n\r\n"),
    refused("", "Connection lists what is no name", "RFC 9110 7.6.1", got(b'Connection: "close"')),
    refused("", "Expect with a parameter", "RFC 9110 10.1.1", got(b"Expect: 100-continue;a=b"), 417),
    passed("", "empty value", _FIELD, got(b"X:"), Seen(b"GET"), lines=(b"X: ",)),
    passed("", "value beyond ASCII", "RFC 9110 5.5", got(b"X: \xe4\xff"), Seen(b"GET"), lines=(b"X: \xe4\xff",)),
    passed("", "tab in a value", "RFC 9110 5.5", got(b"X: a\tb"), Seen(b"GET"), lines=(b"X: a\tb",)),
    passed(
        "",
        "every sign of a token",
        "RFC 9110 5.6.2",
        got(b"!#$%&'*+-.^`|~09Az: 1"),
        Seen(b"GET"),
        lines=(b"!#$%&'*+-.^`|~09Az: 1",),
    ),
    passed(
        "",
        "Proxy-Connection is not passed",
        "RFC 9110 7.6.1",
        got(b"Proxy-Connection: close"),
        Seen(b"GET"),
        gone=(b"proxy-conn",),
    ),
)

LASTS: tuple[Case, ...] = (
    Case("", "double CR LF before garbage", _LINE_END, got() + b"\r\n\r\n\x00", (200, 400), (Seen(b"GET"),)),
    Case("", "good request before a bad one", "RFC 9112 9.3.2", got() + sized(b"+5"), (200, 400), (Seen(b"GET"),)),
    Case("", "HTTP 1.0 without a host", _VERSION, b"GET / HTTP/1.0\r\n\r\n", (200,), (Seen(b"GET"),)),
    Case(
        "",
        "HTTP 1.0 ignores an expectation",
        "RFC 9110 10.1.1",
        posted(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello", version=b"1.0"),
        (200,),
        (Seen(b"POST", body=b"hello"),),
        gone=(b"expect",),
    ),
    Case("", "HTTP 1.0 with two hosts", _HOST, b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", (400,)),
    Case(
        "",
        "Connection close in capitals",
        "RFC 9112 9.6",
        got(b"Connection: Keep-Alive, CLOSE") + got(),
        (200,),
        (Seen(b"GET"),),
    ),
)

MORE = LENGTHS + CODINGS + CHUNKS + TARGETS + HOSTS + LINES + LASTS
