"""Inputs 1 to 28: requests on whose ends two readers could disagree."""

from __future__ import annotations

from tests.proxy.inputs.case import LAST, Case, Seen, chunked, coded, got, passed, posted, refused, sized

_LENGTH, _CODING, _BODY = "RFC 9112 6.2", "RFC 9112 6.1", "RFC 9112 6.3"
_CHUNK, _EXTENSION, _TRAILER = "RFC 9112 7.1", "RFC 9112 7.1.1", "RFC 9112 7.1.2"
_LINE_END, _COLON, _FOLD, _VALUE = "RFC 9112 2.2", "RFC 9112 5.1", "RFC 9112 5.2", "RFC 9110 5.5"
_NAME = "RFC 9110 5.1"

LENGTHS: tuple[Case, ...] = (
    refused("1", "length then chunked", _BODY, posted(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=LAST)),
    refused("1", "chunked then length", _BODY, posted(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=LAST)),
    refused("1", "chunked and length 0", _BODY, posted(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=LAST)),
    refused("2", "two lengths", _BODY, posted(b"Content-Length: 5", b"Content-Length: 6", body=b"hello")),
    refused("2", "two equal lengths", _BODY, posted(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    refused("3", "list of equal lengths", _BODY, sized(b"5, 5")),
    refused("3", "list of other lengths", _BODY, sized(b"5, 6")),
    refused("4", "plus", _LENGTH, sized(b"+5")),
    refused("5", "minus one", _LENGTH, sized(b"-1")),
    refused("5", "minus zero", _LENGTH, sized(b"-0")),
    refused("6", "hexadecimal", _LENGTH, sized(b"0x5")),
    refused("7", "two numbers", _BODY, sized(b"5 5")),
    refused("8", "twenty digits", _BODY, sized(b"18446744073709551617")),
    refused("8", "forty zeros", _LENGTH, sized(b"0" * 40 + b"5")),
    refused("9", "arabic digit", _LENGTH, sized("\u0665".encode())),
    refused("9", "underscore between digits", _LENGTH, sized(b"1_0", b"helloworld")),
    refused("9", "full-width digit", _LENGTH, sized("\uff15".encode())),
)

CODINGS: tuple[Case, ...] = (
    refused("10", "xchunked", _CODING, coded(b"xchunked")),
    refused("11", "chunked then identity", _BODY, coded(b"chunked, identity")),
    refused("11", "gzip then chunked", _CODING, coded(b"gzip, chunked")),
    refused("12", "chunked twice in a list", _CODING, coded(b"chunked, chunked")),
    refused("12", "chunked in two fields", _CODING, coded(b"chunked\r\nTransfer-Encoding: chunked")),
    refused("13", "vertical tab", _VALUE, coded(b"\x0bchunked")),
    refused("13", "form feed behind", _VALUE, coded(b"chunked\x0c")),
    refused("14", "space before the colon", _COLON, posted(b"Transfer-Encoding : chunked", body=LAST)),
    refused("14", "space before the colon of a length", _COLON, posted(b"Content-Length : 5", body=b"hello")),
    refused("20", "chunked on 1.0", _CODING, posted(b"Transfer-Encoding: chunked", body=LAST, version=b"1.0")),
)

LINES: tuple[Case, ...] = (
    refused("15", "folded value", _FOLD, got(b"X: a\r\n b")),
    refused("15", "folded with a tab", _FOLD, got(b"X: a\r\n\tb")),
    refused("15", "folded length", _FOLD, posted(b"Content-Length:\r\n 5", body=b"hello")),
    refused("15", "folded coding", _FOLD, coded(b"\r\n chunked")),
    refused("16", "bare LF everywhere", _LINE_END, b"GET / HTTP/1.1\nHost: a\n\n"),
    refused("16", "bare LF between fields", _LINE_END, got(b"X: a\nY: b")),
    refused("16", "bare LF at the head's end", _LINE_END, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    refused("17", "bare CR in a value", _LINE_END, got(b"X: a\rContent-Length: 5")),
    refused("17", "CR CR LF", _LINE_END, got(b"X: a\r")),
    refused("18", "NUL in a value", _VALUE, got(b"X: a\x00b")),
    refused("18", "BEL in a value", _VALUE, got(b"X: a\x07b")),
    refused("18", "DEL in a value", _VALUE, got(b"X: a\x7fb")),
    refused("19", "brackets in a name", _NAME, got(b"X[1]: a")),
    refused("19", "empty name", _NAME, got(b": a")),
    refused("19", "name beyond ASCII", _NAME, got(b"X\xe9: a")),
)

CHUNKS: tuple[Case, ...] = (
    refused("21", "size with plus", _CHUNK, chunked(b"+5\r\nhello\r\n" + LAST)),
    refused("21", "size with minus", _CHUNK, chunked(b"-5\r\nhello\r\n" + LAST)),
    refused("21", "size with 0x", _CHUNK, chunked(b"0x5\r\nhello\r\n" + LAST)),
    refused("21", "space before an extension", _EXTENSION, chunked(b"5 ;x\r\nhello\r\n" + LAST)),
    refused("21", "seventeen digits", _CHUNK, chunked(b"00000000000000005\r\nhello\r\n" + LAST)),
    refused("21", "seventeen digits that overflow", _CHUNK, chunked(b"10000000000000005\r\nhello\r\n" + LAST)),
    refused("22", "no CR LF behind the data", _CHUNK, chunked(b"5\r\nhelloXX" + LAST)),
    refused("22", "LF behind the data", _CHUNK, chunked(b"5\r\nhello\n" + LAST)),
    refused("22", "CR behind the data", _CHUNK, chunked(b"5\r\nhello\r" + LAST)),
    refused("23", "last size ends in LF", _CHUNK, chunked(b"0\n\r\n")),
    refused("24", "extension beyond 4 KiB", _EXTENSION, chunked(b"5;" + b"x" * 4097 + b"\r\nhello\r\n" + LAST)),
    passed(
        "24",
        "extension of 4 KiB",
        _EXTENSION,
        chunked(b"5;" + b"x" * 4095 + b"\r\nhello\r\n" + LAST),
        Seen(b"POST", body=b"hello"),
        gone=(b"xxx",),
    ),
    refused("25", "extensions beyond 64 KiB", _EXTENSION, chunked((b"1;" + b"x" * 3000 + b"\r\na\r\n") * 22 + LAST)),
    refused("26", "length in a trailer", _TRAILER, chunked(b"0\r\nContent-Length: 5\r\n\r\n")),
    refused("26", "coding in a trailer", _TRAILER, chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    refused("26", "host in a trailer", _TRAILER, chunked(b"0\r\nHost: b\r\n\r\n")),
)

ENDS: tuple[Case, ...] = (
    Case(
        "28",
        "request behind a closing one",
        "RFC 9112 9.6",
        got(b"Connection: close") + got(target=b"/smuggled"),
        (200,),
        (Seen(b"GET"),),
        gone=(b"smuggled",),
    ),
    Case(
        "28",
        "garbage behind a closing one",
        "RFC 9112 9.6",
        posted(b"Connection: close", b"Content-Length: 5", body=b"helloGARBAGE\x00\n"),
        (200,),
        (Seen(b"POST", body=b"hello"),),
        gone=(b"garbage",),
    ),
)

FRAMING = LENGTHS + CODINGS + LINES + CHUNKS + ENDS
