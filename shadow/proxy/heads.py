"""Read and write the heads of HTTP/1 messages, strictly (RFC 9110, RFC 9112).

A head is first matched as a whole against the grammar, which leaves no room for bare CR or LF, folded lines,
control characters or odd names; then llhttp reads it too, so a head passes only if both accept it. What goes
on is written anew from the parts, never copied. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import httptools

from shadow.proxy.config import APPEND, KEEP, NEVER_RECORDED, Limits

Field = tuple[bytes, bytes, bytes]
"""Name as sent, name in lower case, value."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELDS: Final = rb"((?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+)"
_REQUEST: Final = re.compile(rb"(" + _TOKEN + rb") ([!-~]++) HTTP/(\d)\.(\d)\r\n" + _FIELDS + rb"\r\n")
_ANSWER: Final = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*+))?+\r\n" + _FIELDS + rb"\r\n")
_LINE: Final = re.compile(_TOKEN + rb" [!-~]++ HTTP/(\d)\.(\d)")
_ODD_VERSION: Final = re.compile(_TOKEN + rb" [!-~]++ HTTP/\d++(?:\.\d++)?")
_BROKEN_LINE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!\Z)|\x00")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_NAME: Final = re.compile(_TOKEN)
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"host"})
_SPECIAL: Final = _HOP_BY_HOP | _FRAMING | {b"expect"}
_OWN: Final = b"x-shadow"
_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"})
_CREDENTIALS: Final = frozenset(name.encode() for name in NEVER_RECORDED)
_WEBSOCKET: Final = b"websocket"


class Rejected(Exception):
    """A message that is not passed on.

    Args:
        status: What its sender is told (of a bad answer: what the client is told).
        reason: One sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class RequestHead:
    """A request's head, taken apart.

    Args:
        target: In origin form (or `*`), as it goes upstream.
        host: Authority of the target, else the Host field; None only in HTTP/1.0.
        fields: End-to-end fields, without Host and Content-Length.
        values: First values by lower-case name, repeated ones joined by a comma.
        content_length: None where the request states none.
        minor: 0 or 1, of HTTP/1.x.
        upgrades: Whether the client asks for a WebSocket; other protocols are not offered upstream.
        is_shadow: Whether a worker of ours sent it (`x-shadow: 1`): copied, its answer would be asked for without end.
        size: Bytes of the head as it came.
    """

    method: bytes
    target: bytes
    host: bytes | None
    minor: int
    fields: list[Field]
    values: dict[bytes, bytes]
    content_length: int | None
    is_chunked: bool
    keeps_alive: bool
    expects_continue: bool
    upgrades: bool = False
    is_shadow: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """What this proxy says of a client's connection to it.

    Args:
        peer: The client's IP address.
        scheme: `http` or `https`.
        forwarded: See `ProxySettings`.
    """

    peer: bytes
    scheme: bytes
    forwarded: str

    def node(self) -> bytes:
        """The address as RFC 7239, section 6, writes it."""
        return b'"[%b]"' % self.peer if b":" in self.peer else self.peer


@dataclass(slots=True)
class AnswerHead:
    """An answer's head, taken apart; `fields` are end-to-end, without Content-Length.

    `upgrades` says whether it agrees to a WebSocket.
    """

    status: int
    reason: bytes
    minor: int
    fields: list[Field]
    values: dict[bytes, bytes]
    content_length: int | None
    is_chunked: bool
    keeps_alive: bool
    size: int = 0
    upgrades: bool = False


_NOBODY: Final = object()
"""Takes nothing of what llhttp reads: its acceptance is all that is asked for."""


def request_head(raw: bytes, limits: Limits) -> RequestHead:
    """Read one request head, from its first byte to the empty line's end.

    Raises:
        Rejected: If it is malformed, ambiguous, too large, or asks for what the proxy does not do.
    """
    match = _REQUEST.fullmatch(raw)
    if match is None or len(raw) > limits.head_bytes_max:
        raise _why(raw, limits)
    method, target, major, minor = match[1], match[2], match[3], match[4]
    if major != b"1" or minor not in b"01":
        raise Rejected(505, f"The version is HTTP/{major.decode()}.{minor.decode()}; only 1.0 and 1.1 are served.")
    if method == b"CONNECT":
        raise Rejected(405, "CONNECT is not served here.")
    if len(target) > limits.target_bytes_max:
        raise Rejected(414, f"The target has {len(target)} bytes; at most {limits.target_bytes_max} are read.")
    count = match[5].count(b"\n")
    if count > limits.fields_max:
        raise Rejected(431, f"The request has {count} header fields; at most {limits.fields_max} are read.")
    _check_by_llhttp(raw, httptools.HttpRequestParser(_NOBODY))
    head = _request_fields(match[5], method, int(minor), limits)
    _set_target(head, target)
    head.size = len(raw)
    return head


def check_start(raw: bytes, limits: Limits, checked: int = 0) -> None:
    """Refuse the beginning of a head that can become none, so that its sender is not waited for.

    Args:
        checked: So many of the bytes have passed before; of a sender of single bytes not all are read each time.

    Raises:
        Rejected: If no continuation of these bytes would be read.
    """
    if len(raw) > limits.head_bytes_max or _BROKEN_LINE.search(raw, max(0, checked - 2)):
        raise _why(raw, limits)
    end = raw.find(b"\r\n")
    if 0 <= end < checked - 1:
        return
    line = raw if end < 0 else raw[:end]
    if end >= 0:
        if _LINE.fullmatch(line) is None:
            raise _why(raw, limits)
    elif len(line) > limits.target_bytes_max + 64:
        raise _why(raw, limits)
    elif _NAME.match(line) is None and line != b"\r":
        raise Rejected(400, "What came is not an HTTP/1 request.")


def _why(raw: bytes, limits: Limits) -> Rejected:
    """The reason why a head is refused."""
    line = raw.partition(b"\r\n")[0]
    target = line.split(b" ")[1] if line.count(b" ") else b""
    if len(target) > limits.target_bytes_max:
        return Rejected(414, f"The target has more than {limits.target_bytes_max} bytes.")
    if len(raw) > limits.head_bytes_max:
        return Rejected(431, f"The header section has more than {limits.head_bytes_max} bytes.")
    if _ODD_VERSION.fullmatch(line) and _LINE.fullmatch(line) is None:
        return Rejected(505, "Only versions 1.0 and 1.1 of HTTP are served.")
    if _LINE.fullmatch(line) is None:
        return Rejected(400, "The request line is malformed.")
    if _BROKEN_LINE.search(raw):
        return Rejected(400, "A line does not end in CR LF, or holds a control character.")
    return Rejected(400, "A header field is malformed.")


def _check_by_llhttp(raw: bytes, parser: Any) -> None:
    """Refuse a head that llhttp refuses."""
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # Only the head was given, and the request to upgrade is taken out of it.
    except httptools.HttpParserInvalidMethodError as error:
        raise Rejected(501, "The method is not known here.") from error
    except httptools.HttpParserError as error:
        raise Rejected(400, f"The head is malformed: {error}.") from error


def _request_fields(raw_fields: bytes, method: bytes, minor: int, limits: Limits) -> RequestHead:
    """Take the fields apart, each a line of the grammar."""
    head = RequestHead(method, b"", None, minor, [], {}, None, False, minor == 1, False)
    fields, values = head.fields, head.values
    connection: list[bytes] = []
    may_have_underscores = limits.refuses_underscores and b"_" in raw_fields
    for line in raw_fields.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        lower, value = name.lower(), value.strip(b" \t")
        if lower in _SPECIAL:
            _take_special(head, lower, value, connection)
            if lower != b"expect":
                continue
        elif lower.startswith(_OWN):
            head.is_shadow = head.is_shadow or (lower == _OWN and value == b"1")
            continue
        if may_have_underscores and b"_" in name:
            raise _underscore(name)
        fields.append((name, lower, value))
        values[lower] = values[lower] + b", " + value if lower in values else value
    if head.is_chunked and head.content_length is not None:
        raise Rejected(400, "Content-Length and Transfer-Encoding exclude each other.")
    if head.host is None and minor == 1:
        raise Rejected(400, "The Host field is missing.")
    if connection:
        head.keeps_alive = b"close" not in connection and (minor == 1 or b"keep-alive" in connection)
        _drop_listed(head.fields, values, connection)
    if head.upgrades:
        has_body = head.is_chunked or head.content_length
        head.upgrades = b"upgrade" in connection and minor == 1 and method == b"GET" and not has_body
    return head


def _underscore(name: bytes) -> Rejected:
    return Rejected(400, f"The field name {name.decode('latin-1')} has an underscore, which others read as -.")


def _take_special(head: RequestHead, lower: bytes, value: bytes, connection: list[bytes]) -> None:
    """Read a field that says something about the message itself."""
    if lower == b"host":
        if head.host is not None or _HOST.fullmatch(value) is None:
            raise Rejected(400, "Host must stand once and name a host.")
        head.host = value
    elif lower == b"content-length":
        if head.content_length is not None or _LENGTH.fullmatch(value) is None:
            raise Rejected(400, "Content-Length must be one decimal number.")
        head.content_length = int(value)
    elif lower == b"connection":
        connection += _tokens(value)
    elif lower == b"upgrade":
        head.upgrades = value.lower() == _WEBSOCKET
    elif lower == b"transfer-encoding":
        if head.is_chunked or value.lower() != b"chunked" or head.minor == 0:
            raise Rejected(400, "Transfer-Encoding must be one chunked, in HTTP/1.1.")
        head.is_chunked = True
    elif lower == b"expect" and _is_continue(value, head.minor):
        head.expects_continue = True


def _is_continue(value: bytes, minor: int) -> bool:
    if minor == 0:
        return False
    if value.lower() != b"100-continue":
        raise Rejected(417, "The only expectation served is 100-continue.")
    return True


def _tokens(value: bytes) -> list[bytes]:
    """The names that a Connection field lists, in lower case."""
    tokens = [token.strip(b" \t").lower() for token in value.split(b",")]
    for token in tokens:
        if token and _NAME.fullmatch(token) is None:
            raise Rejected(400, "A Connection field lists what is not a name.")
    return tokens


def _drop_listed(fields: list[Field], values: dict[bytes, bytes], connection: list[bytes]) -> None:
    """Remove the fields that Connection declares to be for this hop only."""
    listed = {token for token in connection if token not in (b"", b"close", b"keep-alive")}
    if not listed:
        return
    if listed & _FRAMING:
        raise Rejected(400, "Connection must not list Host or a framing field.")
    fields[:] = [entry for entry in fields if entry[1] not in listed]
    for name in listed:
        values.pop(name, None)


def _set_target(head: RequestHead, target: bytes) -> None:
    if b"#" in target:
        raise Rejected(400, "The target has a fragment.")
    if target.startswith(b"/"):
        head.target = target
        return
    if target == b"*":
        if head.method != b"OPTIONS":
            raise Rejected(400, "Only OPTIONS has the target *.")
        head.target = target
        return
    match = _ABSOLUTE.fullmatch(target)
    if match is None or _HOST.fullmatch(match[1]) is None:
        raise Rejected(400, "The target is neither a path nor an http address.")
    head.host = match[1]
    path = match[2]
    if not path.startswith(b"/"):
        path = b"*" if not path and head.method == b"OPTIONS" else b"/" + path
    head.target = path


def forwarded_request(
    head: RequestHead, *, host: bytes, via: bytes, hop: Hop, request_id: bytes, traceparent: bytes
) -> bytes:
    """Write the head that goes upstream.

    Args:
        host: Used where the client named none.
        via: Our name in the Via field.
        request_id: Sent as x-request-id where the client sent none that can be kept.
        traceparent: Likewise.
    """
    lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, head.target, head.host or host)]
    keeps_id = _REQUEST_ID.fullmatch(head.values.get(b"x-request-id", b"")) is not None
    keeps_trace = _TRACEPARENT.fullmatch(head.values.get(b"traceparent", b"")) is not None
    for name, lower, value in head.fields:
        if (not keeps_id and lower == b"x-request-id") or (
            not keeps_trace and lower in (b"traceparent", b"tracestate")
        ):
            head.values.pop(lower, None)
            continue
        if (lower == b"expect" and not head.expects_continue) or (lower in _FORWARDED and hop.forwarded != KEEP):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    if not keeps_id:
        lines.append(b"x-request-id: %b\r\n" % request_id)
    if not keeps_trace:
        head.values[b"traceparent"] = traceparent
        lines.append(b"traceparent: %b\r\n" % traceparent)
    if hop.forwarded != KEEP:
        lines.append(_forwarded(head, hop))
    lines.append(b"Via: 1.%d %b\r\n" % (head.minor, via))
    if head.upgrades:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    if head.is_chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n\r\n")
    elif head.content_length is not None:
        lines.append(b"Content-Length: %d\r\n\r\n" % head.content_length)
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def _forwarded(head: RequestHead, hop: Hop) -> bytes:
    """The fields that tell the upstream about the client and the hops before (RFC 7239, and its forerunners)."""
    values = head.values if hop.forwarded == APPEND else {}
    before, scheme = values.get(b"x-forwarded-for"), values.get(b"x-forwarded-proto", hop.scheme)
    chain = b"%b, %b" % (before, hop.peer) if before else hop.peer
    text = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (chain, scheme)
    host = values.get(b"x-forwarded-host", head.host)
    if host:
        text += b"X-Forwarded-Host: %b\r\n" % host
    if b"forwarded" in values:
        text += b"Forwarded: %b, for=%b;proto=%b\r\n" % (values[b"forwarded"], hop.node(), hop.scheme)
    return text


def passed_through(head: RequestHead, via: bytes) -> bool:
    """Whether the request's Via fields name us, so that it goes in a circle."""
    value = head.values.get(b"via")
    return value is not None and via in value and any(via in entry.split() for entry in value.split(b","))


def answer_head(raw: bytes) -> AnswerHead:
    """Read one answer head.

    Raises:
        Rejected: With 502, if it is malformed or ambiguous.
    """
    match = _ANSWER.fullmatch(raw)
    if match is None:
        raise Rejected(502, "The upstream's answer has a malformed head.")
    minor = int(match[1])
    try:
        _check_by_llhttp(raw, httptools.HttpResponseParser(_NOBODY))
        head = AnswerHead(int(match[2]), match[3] or b"", minor, [], {}, None, False, minor == 1, len(raw))
        _read_answer_fields(head, match[4])
    except Rejected as rejected:
        raise Rejected(502, f"The upstream's answer is refused: {rejected.reason}") from rejected
    return head


def _read_answer_fields(head: AnswerHead, raw_fields: bytes) -> None:
    fields, values = head.fields, head.values
    connection: list[bytes] = []
    for line in raw_fields.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        lower, value = name.lower(), value.strip(b" \t")
        if lower in _HOP_BY_HOP:
            if lower == b"connection":
                connection += _tokens(value)
            elif lower == b"upgrade":
                head.upgrades = value.lower() == _WEBSOCKET
            elif lower == b"transfer-encoding":
                if head.is_chunked or value.lower() != b"chunked" or head.minor == 0:
                    raise Rejected(502, "Transfer-Encoding must be one chunked, in HTTP/1.1.")
                head.is_chunked = True
        elif lower == b"content-length":
            if head.content_length is not None or _LENGTH.fullmatch(value) is None:
                raise Rejected(502, "Content-Length must be one decimal number.")
            head.content_length = int(value)
        elif not lower.startswith(_OWN):
            fields.append((name, lower, value))
            values[lower] = values[lower] + b", " + value if lower in values else value
    if head.is_chunked and head.content_length is not None:
        raise Rejected(502, "Content-Length and Transfer-Encoding exclude each other.")
    if connection:
        head.keeps_alive = b"close" not in connection and (head.minor == 1 or b"keep-alive" in connection)
        _drop_listed(fields, values, connection)


def trailer_fields(raw: bytes, *, refuses_underscores: bool = False) -> list[Field]:
    """Read a trailer section (without the empty line); credentials have no place in one, and are left out.

    Raises:
        Rejected: If it is malformed, or holds a field that says where a message ends or goes.
    """
    fields: list[Field] = []
    if raw and re.fullmatch(_FIELDS, raw) is None:
        raise Rejected(400, "A trailer field is malformed.")
    for line in raw.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        lower = name.lower()
        if lower in _FRAMING:
            raise Rejected(400, "A trailer must not hold Host or a framing field.")
        if refuses_underscores and b"_" in name:
            raise _underscore(name)
        if lower not in _HOP_BY_HOP and lower not in _CREDENTIALS and not lower.startswith(_OWN):
            fields.append((name, lower, value.strip(b" \t")))
    return fields
