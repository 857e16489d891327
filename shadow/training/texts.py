"""Read prompts and answers out of the bodies of graded pairs, as chats that training tools take. Pure.

A graded pair carries bodies without their headers, so a content encoding is told by the bytes themselves. Chats are
text here: a tool call or a picture cannot be said in `{"role", "content"}`, and is left out rather than cut short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from shadow.bodies import GZIP_MAGIC, NOT_JSON, ZSTD_MAGIC, Unreadable, decoded, inflated, json_of
from shadow.graders.graded import text_of

MESSAGES: Final = "messages"
INPUT: Final = "input"
PROMPT: Final = "prompt"
BODY: Final = "body"

SOURCES: Final = (MESSAGES, INPUT, PROMPT, BODY)
"""Where a prompt was read: a field of the request's JSON body, or the whole body as text."""

TOOL_CALL: Final = "a tool call"
NO_TEXT: Final = "no text"
UNASKED: Final = "a chat in which nobody is asked"
NOT_READ: Final = "an encoding that is not read"
OTHER_CONTENT: Final = "content other than text"

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Tuples, since what a user sends there may be a list, which no set can look up.
_TOOL_ROLES: Final = ("tool", "function")
_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_CALL_ITEMS: Final = ("function_call", "custom_tool_call", "mcp_call", "computer_call", "tool_call")
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class LeftOut(ValueError):
    """A pair that gives no row of the wanted format; the text says why, in a few words that can be counted."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat.

    Args:
        role: `system`, `user` or `assistant`.
        content: Its text.
    """

    role: str
    content: str

    def tree(self) -> dict[str, str]:
        """As training tools read it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model was asked.

    Args:
        messages: The chat, one message at least.
        source: One of `SOURCES`.
    """

    messages: tuple[Message, ...]
    source: str

    def trees(self) -> list[dict[str, str]]:
        """As training tools read it."""
        return [message.tree() for message in self.messages]


def plain(body: bytes) -> bytes:
    """A body with its content encoding undone, as far as the bytes tell it.

    gzip and zstd begin with a mark. Brotli and deflate have none: they are tried where the body is no UTF-8, and
    taken where UTF-8 comes out.

    Raises:
        LeftOut: If it inflates to more than is read.
    """
    try:
        for name, magic in (("gzip", GZIP_MAGIC), ("zstd", ZSTD_MAGIC)):
            if body.startswith(magic):
                return inflated(body, {"content-encoding": name})
        if _is_text(body):
            return body
        for name in ("br", "deflate"):
            found = inflated(body, {"content-encoding": name})
            if found != body and _is_text(found):
                return found
    except Unreadable:
        raise LeftOut(NOT_READ) from None
    return body


def _is_text(body: bytes) -> bool:
    if body[:2] in _UTF16:
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def shown_text(body: bytes) -> str:
    """A body as text, whatever stands in it."""
    try:
        return decoded(plain(body))
    except LeftOut:
        return decoded(body)


def prompt_of(body: bytes) -> Prompt:
    """The chat that a request asked to go on.

    Of an OpenAI-style body the `messages`; of a Responses body `instructions` and `input`; of a completion body the
    `prompt`; of anything else the whole body as the text of one user.

    Raises:
        LeftOut: If it is empty, or cannot be said as text.
    """
    body = plain(body)
    document = json_of(body)
    if isinstance(document, dict):
        if isinstance(document.get(MESSAGES), list):
            return Prompt(_chat(document[MESSAGES]), MESSAGES)
        if isinstance(document.get(INPUT), str | list):
            return Prompt(_responses_chat(document), INPUT)
        if isinstance(document.get(PROMPT), str):
            return Prompt((_user(document[PROMPT]),), PROMPT)
    return Prompt((_user(decoded(body)),), BODY)


def any_prompt_of(body: bytes) -> Prompt:
    """As `prompt_of`; what cannot be said as a chat of text is the whole body as the text of one user."""
    try:
        return prompt_of(body)
    except LeftOut:
        return Prompt((Message("user", shown_text(body)),), BODY)


def _user(text: str) -> Message:
    if not text.strip():
        raise LeftOut(NO_TEXT)
    return Message("user", text)


def _responses_chat(document: Mapping[str, Any]) -> tuple[Message, ...]:
    before = document.get("instructions")
    system = (Message("system", before),) if isinstance(before, str) and before.strip() else ()
    asked = document[INPUT]
    return system + ((_user(asked),) if isinstance(asked, str) else _chat(asked))


def _chat(items: list[Any]) -> tuple[Message, ...]:
    if not items:
        raise LeftOut(NO_TEXT)
    chat = tuple(_message(item) for item in items)
    if chat[-1].role == "system":
        raise LeftOut(UNASKED)  # chat templates refuse it: there is no turn to answer
    return chat


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        raise LeftOut(OTHER_CONTENT)
    role = item.get("role")
    if role in _TOOL_ROLES or item.get("type") in _CALL_ITEMS or _calls_tool(item):
        raise LeftOut(TOOL_CALL)
    if not isinstance(role, str) or role not in _ROLES:
        raise LeftOut(OTHER_CONTENT)
    return Message(_ROLES[role], _content(item.get("content")))


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise LeftOut(OTHER_CONTENT)
    parts = []
    for part in content:
        is_text = isinstance(part, dict) and part.get("type", "text") in _TEXT_PARTS
        if not is_text or not isinstance(part.get("text"), str):
            raise LeftOut(OTHER_CONTENT)
        parts.append(part["text"])
    return "".join(parts)


def answer_of(body: bytes) -> Message:
    """An answer as the assistant's message: its text as the graders read it.

    Raises:
        LeftOut: If it is empty, calls a tool, or cannot be read.
    """
    body = plain(body)
    document = json_of(body)
    if isinstance(document, dict) and isinstance(document.get("output"), list):
        text = _output_text(document["output"])
    else:
        if any(_calls_tool(message) for message in _answers_in(body, document)):
            raise LeftOut(TOOL_CALL)
        text = text_of(body, {})
    if not text.strip():
        raise LeftOut(NO_TEXT)
    return Message("assistant", text)


def any_answer_of(body: bytes) -> str:
    """An answer's text; what is none is the whole body."""
    try:
        return answer_of(body).content
    except LeftOut:
        return shown_text(body)


def _output_text(items: list[Any]) -> str:
    """The text of a Responses answer."""
    texts = []
    for item in items:
        if not isinstance(item, dict):
            raise LeftOut(OTHER_CONTENT)
        if item.get("type") in _CALL_ITEMS:
            raise LeftOut(TOOL_CALL)
        if item.get("type") == "message":
            texts.append(_content(item.get("content")))
    return "".join(texts)


def _calls_tool(message: Mapping[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def _answers_in(body: bytes, document: Any) -> Iterator[Mapping[str, Any]]:
    """The message of a completion, or the deltas of a stream, that may call a tool."""
    if document is not NOT_JSON:
        yield from _first_message(document, "message")
        return
    if b"tool_calls" not in body and b"function_call" not in body:
        return
    for line in body.replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError:
                continue
            yield from _first_message(event, "delta")


def _first_message(document: Any, name: str) -> Iterator[Mapping[str, Any]]:
    choices = document.get("choices") if isinstance(document, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get(name) if isinstance(first, dict) else None
    if isinstance(message, dict):
        yield message
