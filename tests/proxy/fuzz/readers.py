"""Other people's readers of HTTP/1, which must find the messages that the proxy finds: h11 and llhttp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import h11
import httptools

from tests.proxy.inputs.case import Seen

WHOLE: Final = "whole"
PARTIAL: Final = "partial"
REFUSED: Final = "refused"
_BYTES_MAX: Final = 1 << 20


@dataclass(slots=True)
class Reading:
    """What a reader found.

    Args:
        messages: Whole ones, in order.
        methods: Of every message whose head was read; the last one's body may be missing.
        end: What stands behind the whole messages: nothing (`whole`), a part of one, or what the reader refuses.
    """

    messages: list[Seen] = field(default_factory=list)
    methods: list[bytes] = field(default_factory=list)
    end: str = WHOLE

    @property
    def begun(self) -> int:
        """Messages whose head was read."""
        return len(self.methods)


def by_h11(data: bytes) -> Reading:
    """What h11's server side reads.

    Where h11 stops for reasons of its own it is helped on:

    | h11 | here | why the proxy may go on |
    |---|---|---|
    | refuses empty lines before a message | two are taken off | RFC 9112 2.2 wants one to be ignored |
    | ends behind every HTTP/1.0 message | goes on where Connection says keep-alive | RFC 9112 9.3 allows it |
    | waits behind a request to upgrade | goes on but for a close | the proxy strips Upgrade, so nothing is switched |
    """
    reading = Reading()
    goes_on = True
    while data and goes_on:
        data = data.removeprefix(b"\r\n").removeprefix(b"\r\n")
        connection = _server()
        connection.receive_data(data)
        try:
            goes_on = _read_with_h11(connection, reading)
        except h11.RemoteProtocolError:
            reading.end = REFUSED
            break
        data = connection.trailing_data[0]
    return reading


def _read_with_h11(connection: h11.Connection, reading: Reading) -> bool:
    """Read one message; returns whether another one may follow."""
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            head = event
            reading.methods.append(event.method)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            reading.messages.append(Seen(head.method, head.target, body))
            options = b",".join(value for name, value in head.headers if name == b"connection").lower()
            if connection.their_state is h11.DONE:
                return True
            if b"close" in options:
                return False
            is_kept_1_0 = head.http_version == b"1.0" and b"keep-alive" in options
            return is_kept_1_0 or (head.http_version != b"1.0" and connection.their_state is h11.MIGHT_SWITCH_PROTOCOL)
        else:
            reading.end = PARTIAL if head is not None or connection.trailing_data[0] else WHOLE
            return False


def _server() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=_BYTES_MAX)


class Arriving:
    """What h11 reads of bytes that come in pieces, each of which is read once.

    Args:
        begun: Messages whose head has come.
        whole: Messages that have come.
    """

    def __init__(self) -> None:
        self.begun = self.whole = 0
        self._connection: h11.Connection | None = _server()

    def receive(self, data: bytes) -> None:
        """Take the next piece; behind what h11 refuses nothing more is read."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.receive_data(data)
        try:
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    self.begun += 1
                elif isinstance(event, h11.EndOfMessage):
                    self.whole += 1
                    behind = connection.trailing_data[0]
                    connection = _server()
                    if behind:  # no bytes would be the end
                        connection.receive_data(behind)
        except h11.RemoteProtocolError:
            return
        self._connection = connection


class _Messages:
    """Takes llhttp's events."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._target = self._body = b""
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._target = self._body = b""
        self._reading.end = PARTIAL

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_headers_complete(self) -> None:
        self._reading.methods.append(self.parser.get_method())

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        self._reading.messages.append(Seen(self.parser.get_method(), self._target, self._body))
        self._reading.end = WHOLE


def by_llhttp(data: bytes) -> Reading:
    """What llhttp reads, strictly, as httptools sets it; behind a request to upgrade it goes on as behind any other."""
    reading = Reading()
    messages = _Messages(reading)
    while data:
        try:
            messages.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            data = data[upgrade.args[0] :]
            messages = _Messages(reading)
            continue
        except httptools.HttpParserError:
            if not messages.parser.should_keep_alive() and reading.end == WHOLE and reading.messages:
                break  # What stands behind the last message that it wanted is an error to it.
            reading.end = REFUSED
        break
    return reading


@dataclass(slots=True)
class Answer:
    """A final answer that a client got whole."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def answers_by_h11(data: bytes, methods: Sequence[bytes], *, has_ended: bool) -> tuple[list[Answer], bytes]:
    """The whole answers that h11's client side reads for requests with these methods, and what is behind them.

    Args:
        has_ended: Whether the connection was ended in order behind the bytes.

    Raises:
        h11.RemoteProtocolError: If the bytes are no answers, or end in order within one.
    """
    answers: list[Answer] = []
    for method in methods:
        if not data:
            break
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_BYTES_MAX)
        connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        if has_ended:
            connection.receive_data(b"")
        answer = _answer_with_h11(connection)
        if answer is None:
            break
        answers.append(answer)
        data = connection.trailing_data[0]
    return answers, data


def _answer_with_h11(connection: h11.Connection) -> Answer | None:
    head: h11.Response | None = None
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return Answer(head.status_code, dict(head.headers), body)
        elif not isinstance(event, h11.InformationalResponse):
            return None
