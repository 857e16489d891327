"""An OpenAI-compatible chat service with a scripted model behind it, streaming included."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from answers import Reply, Version, reply

# The scripts are started by path, from the source tree or from an installed package; serving.py lies one level up.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from serving import port_from, run

VERSION_KEY: Final = web.AppKey("version", Version)
BODY_BYTES_MAX: Final = 1 << 20
CREATED: Final = 1_767_225_600
"""A constant, so that an answer depends on its request alone."""
PIECES: Final = 6
"""Events with text in a streamed answer."""
FIRST_SHARE: Final = 0.4
"""Share of an answer's time before its first event."""


class Refusal(ValueError):
    """A request that the service does not understand; the text says why."""


def serve(version: Version, arguments: Sequence[str] | None = None) -> int:
    """Serve one version on the port of the command line, until a signal; returns the exit status."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[VERSION_KEY] = version
    app.router.add_post("/v1/chat/completions", _complete)
    app.router.add_get("/healthz", _healthy)
    summary = f"The scripted assistant, version {version.name}"
    return run(app, name=f"assistant {version.name}", port=port_from(arguments, summary))


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _complete(request: web.Request) -> web.StreamResponse:
    try:
        body = _parsed(await request.read())
        text = _user_text(body)
    except Refusal as refusal:
        error = {"error": {"message": str(refusal), "type": "invalid_request_error", "param": None, "code": None}}
        return web.Response(status=400, body=orjson.dumps(error), content_type="application/json")
    answer = reply(request.app[VERSION_KEY], text, _expected(body))
    head = {
        "id": "chatcmpl-" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest(),
        "created": CREATED,
        "model": str(body.get("model", "assistant")),
    }
    if body.get("stream") is True:
        return await _stream(request, head, answer)
    await asyncio.sleep(answer.latency_s)
    message = {"role": "assistant", "content": answer.text}
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(answer),
    }
    return web.Response(body=orjson.dumps(whole), content_type="application/json")


async def _stream(request: web.Request, head: dict[str, Any], answer: Reply) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
    await asyncio.sleep(answer.latency_s * FIRST_SHARE)
    await response.prepare(request)
    size = -(-len(answer.text) // PIECES)
    pause_s = answer.latency_s * (1 - FIRST_SHARE) / PIECES
    for start in range(0, len(answer.text), size):
        delta = {"content": answer.text[start : start + size]}
        if start == 0:
            delta["role"] = "assistant"
        await response.write(_event(head, [{"index": 0, "delta": delta, "finish_reason": None}], None))
        await asyncio.sleep(pause_s)
    await response.write(_event(head, [{"index": 0, "delta": {}, "finish_reason": "stop"}], None))
    await response.write(_event(head, [], _usage(answer)) + b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _event(head: dict[str, Any], choices: list[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
    chunk = {**head, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _usage(answer: Reply) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as trouble:
        raise Refusal(f"the body is not JSON: {trouble}") from trouble
    if not isinstance(body, dict):
        raise Refusal(f"the body is a JSON {type(body).__name__}, it must be an object with the field `messages`")
    return body


def _user_text(body: dict[str, Any]) -> str:
    """The content of the last message of the user."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise Refusal("the field `messages` must be a list of messages")
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str):
            return str(message["content"])
    raise Refusal(f"none of the {len(messages)} messages is the user's with text as its `content`")


def _expected(body: dict[str, Any]) -> str | None:
    metadata = body.get("metadata")
    answer = metadata.get("answer") if isinstance(metadata, dict) else None
    return answer if isinstance(answer, str) else None
