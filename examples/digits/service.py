"""Serve one digit reader over HTTP: `POST /predict` with 64 pixels gives the digit, also inside an answer tag."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

# The scripts are started by path, from the source tree or from an installed package; serving.py lies one level up.
sys.path.append(str(Path(__file__).resolve().parent.parent))

import numpy as np
import orjson
from aiohttp import web
from models import Model
from requests import INK_MAX, PIXELS, ExampleExtraMissing, Ints
from serving import port_from, run

MODEL_KEY: Final = web.AppKey("model", Model)
BODY_BYTES_MAX: Final = 64 << 10


class Refusal(ValueError):
    """A request that the service does not understand; the text says why."""


def serve(name: str, train: Callable[[], Model], arguments: Sequence[str] | None = None) -> int:
    """Train a model, then serve it on the port of the command line until a signal; returns the exit status."""
    port = port_from(arguments, f"A reader of handwritten digits: {name}")
    try:
        model = train()
    except ExampleExtraMissing as trouble:
        print(f"digits {name}: {trouble}", file=sys.stderr)
        return 2
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[MODEL_KEY] = model
    app.router.add_post("/predict", _predict)
    app.router.add_get("/healthz", _healthy)
    return run(app, name=f"digits {name} ({model.name})", port=port)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _predict(request: web.Request) -> web.Response:
    try:
        pixels = _pixels(await request.read())
    except Refusal as refusal:
        return web.Response(status=400, body=orjson.dumps({"error": str(refusal)}), content_type="application/json")
    reading = request.app[MODEL_KEY].read(pixels)[0]
    answer = {"answer": f"<answer>{reading.digit}</answer>", "digit": reading.digit, "scores": reading.scores}
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _pixels(raw: bytes) -> Ints:
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as trouble:
        raise Refusal(f"the body is not JSON: {trouble}") from trouble
    pixels = body.get("pixels") if isinstance(body, dict) else None
    if not isinstance(pixels, list) or len(pixels) != PIXELS:
        raise Refusal(f"the field `pixels` must be a list of {PIXELS} integers from 0 to {INK_MAX}")
    for place, ink in enumerate(pixels):
        if type(ink) is not int or not 0 <= ink <= INK_MAX:
            raise Refusal(f"pixels[{place}] must be an integer from 0 to {INK_MAX}")
    return np.array([pixels], dtype=np.int64)
