"""Read the token usage that a model states in its answer, and what it costs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Price:
    """Price of tokens, in micro-units of money per million tokens."""

    prompt_micro: int = 0
    completion_micro: int = 0

    def cost_micro(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Cost of one answer in micro-units, rounded half up."""
        total = prompt_tokens * self.prompt_micro + completion_tokens * self.completion_micro
        return (total + 500_000) // 1_000_000


def tokens_of(body: bytes, *, is_stream: bool) -> tuple[int, int]:
    """(prompt, completion) tokens that an OpenAI-compatible answer states; zeros where it states none.

    Args:
        body: The answer's body; of a stream, all of its server-sent events.
        is_stream: Whether the body is a stream of server-sent events.
    """
    if is_stream:
        for line in reversed(body.split(b"\n")):
            if line.startswith(b"data:") and b'"usage"' in line:
                tokens = _tokens(line[5:])
                if tokens != (0, 0):
                    return tokens
        return 0, 0
    return _tokens(body) if b'"usage"' in body else (0, 0)


def _tokens(document: bytes) -> tuple[int, int]:
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError:
        return 0, 0
    usage = parsed.get("usage") if isinstance(parsed, dict) else None
    if not isinstance(usage, dict):
        return 0, 0
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0
