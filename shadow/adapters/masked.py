"""A model whose replies are masked before they are written, as the proxy masks what it copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from shadow.adapters.calls import Model
from shadow.records.answers import REFUSED
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest

Mask = Callable[[bytes, Mapping[str, str]], bytes | None]
"""A body, by its headers, with what must be masked masked; None where it cannot be looked for."""


class MaskedModel:
    """Implements `shadow.adapters.calls.Model`.

    A body that should be JSON and is not is left out and graded as empty, since the model broke it. One that is
    compressed, although nobody asked for that, is our trouble: `refused`.
    """

    def __init__(self, model: Model, mask: Mask) -> None:
        self._model = model
        self._mask = mask

    async def call(self, request: MirroredRequest, role: str, version: str) -> Reply:
        """See `Model`."""
        reply = await self._model.call(request, role, version)
        if not reply.body:
            return reply
        body = self._mask(reply.body, reply.headers)
        if body is not None:
            return replace(reply, body=body)
        if "content-encoding" in reply.headers:
            error = f"the reply is encoded as {reply.headers['content-encoding'][:40]!r}, so it cannot be masked"
            return replace(reply, outcome=REFUSED, body=b"", error=error)
        return replace(reply, body=b"")

    async def close(self) -> None:
        """See `Model`."""
        await self._model.close()
