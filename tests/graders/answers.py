"""Builders of requests and answers for tests of graders and slices."""

from __future__ import annotations

from typing import Any

import orjson

from shadow.graders import Graded, Grader, build
from shadow.graders.guard import grade_safely
from shadow.records.grades import Grade, GraderSpec
from shadow.records.requests import MirroredRequest, Origin


def request(body: Any = b"", *, path: str = "/v1/chat", key: str = "key", **headers: str) -> MirroredRequest:
    """A request; a body that is not bytes is written as JSON. Header names have underscores for hyphens."""
    return MirroredRequest(
        request_id="request-1",
        key=key,
        event_time_us=1,
        method="POST",
        path=path,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body if isinstance(body, bytes) else orjson.dumps(body),
        u=0.5,
        sample=1.0,
        quotas={},
        origin=Origin("proxy", 1, 1, 1, {}),
    )


def answer(
    body: Any = b"",
    *,
    to: MirroredRequest | None = None,
    role: str = "candidate",
    status: int = 200,
    headers: dict[str, str] | None = None,
    **measures: int,
) -> Graded:
    """An answer; text is encoded, and a body that is neither text nor bytes is written as JSON."""
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    return Graded(
        role=role,
        request=to or request(),
        outcome="answered",
        status=status,
        headers=headers or {},
        body=body if isinstance(body, bytes) else orjson.dumps(body),
        **measures,
    )


def chat(text: str | None) -> dict[str, Any]:
    """A chat completion."""
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"prompt_tokens": 3}}


def grader(kind: str, /, **params: Any) -> Grader:
    """A grader named after its kind."""
    return build(GraderSpec(kind, kind, (), params))


def grade(kind: str, body: Any, /, *, to: MirroredRequest | None = None, other: Any = None, **params: Any) -> Grade:
    """The grade of one answer, through the guard; `other` is the body of production's answer."""
    production = None if other is None else answer(other, to=to, role="production")
    found = grade_safely(grader(kind, **params), answer(body, to=to), production)
    assert isinstance(found, Grade)
    return found
