"""A model server of its own process for the flow tests: doubles a number, and is wrong on every so many even ones."""

from __future__ import annotations

import argparse
import asyncio

import orjson
import uvloop
from aiohttp import web

from shadow.adapters.orphan import end_with_parent


def serve(port: int, wrong_every: int) -> None:
    async def handle(request: web.Request) -> web.Response:
        number = orjson.loads(await request.read())["n"]
        is_wrong = wrong_every > 0 and number % (2 * wrong_every) == 0
        answer = {"answer": f"twice {number} is <answer>{number * 2 + is_wrong}</answer>"}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    web.run_app(
        app, host="127.0.0.1", port=port, print=None, access_log=None, loop=uvloop.new_event_loop(), shutdown_timeout=1
    )
    asyncio.set_event_loop(None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--wrong-every", type=int, default=0)
    arguments = parser.parse_args()
    end_with_parent()
    serve(arguments.port, arguments.wrong_every)
