"""Read the JSON body of a request to an admin port: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from shadow.adapters.admin import BODY_BYTES_MAX
from shadow.api.guard import Refusal
from shadow.gate.strict_json import shown

BODY_S: Final = 30.0
"""How long a body may take to arrive."""


async def json_body(request: web.Request, bytes_max: int = BODY_BYTES_MAX, remedy: str = "send several") -> bytes:
    """The body as it was sent.

    Args:
        bytes_max: At most what the admin server reads.
        remedy: What to do where it is larger, as the end of a sentence.

    Raises:
        Refusal: If it is said to be something else than JSON, is too large, or comes too slowly.
    """
    if request.content_type != "application/json" or "content-encoding" in request.headers:
        said = request.headers.get("content-type", "none")
        raise Refusal(415, f"content-type is {shown(said)}, must be application/json without a content-encoding")
    too_large = f"the body is larger than the {bytes_max:,} bytes that are read; {remedy}"
    if (request.content_length or 0) > bytes_max:
        raise Refusal(413, too_large)
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(413, too_large) from error
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {BODY_S:g} s") from error
    if len(body) > bytes_max:
        raise Refusal(413, too_large)
    return body
