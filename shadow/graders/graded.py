"""What a grader sees of one role's answer, and what it promises. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from shadow.bodies import NOT_JSON, decoded, inflated, json_of
from shadow.records.grades import Ask, Grade
from shadow.records.made import maker, setter
from shadow.records.requests import MirroredRequest

_UNREAD: Final = object()

ANSWER_FIELDS = ("answer", "text", "output")
"""Fields of a JSON answer that hold its text where it is no chat completion."""


@dataclass(frozen=True, slots=True)
class Graded:
    """One role's answer to one request; what has to be parsed is parsed once, when first asked for.

    Args:
        role: Whose answer it is.
        outcome: One of `shadow.records.answers.OUTCOMES`.
        status: HTTP status; 0 where there was none.
        headers: Recorded headers of the answer, names in lower case.
        duration_us: From the call's start to the answer's end.
        first_byte_us: From the call's start to the first byte; 0 where none came.
    """

    role: str
    request: MirroredRequest
    outcome: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    duration_us: int = 0
    first_byte_us: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micro: int = 0
    _request_json: Any = field(default=_UNREAD, init=False, repr=False, compare=False)
    _text: str | None = field(default=None, init=False, repr=False, compare=False)
    _folded: str | None = field(default=None, init=False, repr=False, compare=False)
    _utf8: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        """Tokens of prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def request_json(self) -> Any | None:
        """The request's JSON body; None where it is not sound JSON.

        Raises:
            Unreadable: If the body is in an encoding that is not read.
        """
        document = self._request_json
        if document is _UNREAD:
            document = json_of(inflated(self.request.body, self.request.headers))
            document = None if document is NOT_JSON else document
            _keep_request_json(self, document)
        return document

    def text(self) -> str:
        """The answer's text.

        Of a chat completion the content of the first choice's message, of a stream its pieces joined, of other
        JSON the string itself or the field `answer`, `text` or `output`, else the whole body.

        Raises:
            Unreadable: If the body is in an encoding that is not read, or inflates to over 1 MiB.
        """
        text = self._text
        if text is None:
            text = text_of(self.body, self.headers)
            _keep_text(self, text)
        return text

    def folded(self) -> str:
        """The answer's text with the difference between letters of both cases removed; raises as `text` does."""
        folded = self._folded
        if folded is None:
            folded = self.text().casefold()
            _keep_folded(self, folded)
        return folded

    def utf8(self) -> bytes:
        """The answer's text as UTF-8, lone surrogates replaced; raises as `text` does."""
        encoded = self._utf8
        if encoded is None:
            encoded = self.text().encode("utf-8", "replace")
            _keep_utf8(self, encoded)
        return encoded


_keep_request_json: Final = setter(Graded, "_request_json")
_keep_text: Final = setter(Graded, "_text")
_keep_folded: Final = setter(Graded, "_folded")
_keep_utf8: Final = setter(Graded, "_utf8")

make_graded: Final = maker(Graded)
"""Makes a Graded in a fifth of the time that its class takes."""


class Grader(Protocol):
    """A rule on one answer.

    A grader does not raise for anything that an answer may contain, but callers go through
    `shadow.graders.guard`, since a grader may be somebody else's.
    """

    @property
    def name(self) -> str:
        """Name in the configuration."""

    @property
    def kind(self) -> str:
        """Which grader it is."""

    @property
    def slices(self) -> tuple[str, ...]:
        """Slices to which it applies; empty means everywhere."""

    @property
    def version(self) -> int:
        """Raised when the same answer may get another grade than before."""

    @property
    def is_recorded(self) -> bool:
        """Whether it asks a service, so that its grades are written to the log and read back."""

    @property
    def budget_us(self) -> int:
        """How long one grade may take."""

    def grade(self, answer: Graded, other: Graded | None) -> Grade | Ask:
        """Grade an answer.

        Args:
            other: Production's answer while the candidate's is graded, else None.
        """

    def read(self, reply: bytes) -> Grade:
        """The grade in the reply to what `grade` asked."""


def text_of(body: bytes, headers: Mapping[str, str]) -> str:
    """The text of an answer's body, as `Graded.text` says; raises as it does."""
    body = inflated(body, headers)
    if _is_stream(headers, body):
        return _stream_text(body)
    document = json_of(body)
    text = None if document is NOT_JSON else _document_text(document)
    return decoded(body) if text is None else text


def _is_stream(headers: Mapping[str, str], body: bytes) -> bool:
    kind = headers.get("content-type", "")
    if kind and kind != "application/json" and kind.partition(";")[0].strip().lower() == "text/event-stream":
        return True
    return body.startswith((b"data: {", b"data:{")) and b"\n" in body


def _stream_text(body: bytes) -> str:
    pieces = []
    for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            if data != b"[DONE]":
                pieces.append(decoded(data))
            continue
        pieces.append(_event_text(document))
    return "".join(pieces)


def _event_text(document: Any) -> str:
    if isinstance(document, str):
        return document
    if not isinstance(document, dict):
        return ""
    choice = _first_choice(document)
    if choice is not None:
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
        return _content_text(text)
    if document.get("type") == "response.output_text.delta":
        return _content_text(document.get("delta"))
    return ""


def _document_text(document: Any) -> str | None:
    if isinstance(document, str):
        return document
    if not isinstance(document, dict):
        return None
    choice = _first_choice(document) if "choices" in document else None
    if choice is not None:
        message = choice.get("message")
        return _content_text(message.get("content") if isinstance(message, dict) else choice.get("text"))
    for name in ANSWER_FIELDS:
        text = document.get(name)
        if isinstance(text, str):
            return text
    return None


def _first_choice(document: dict[str, Any]) -> dict[str, Any] | None:
    choices = document.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return ""
