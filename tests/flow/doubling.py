"""A model server of its own process for the flow tests: doubles a number, and is wrong on every so many even ones.

It can be told to be wrong only on live requests, which carry no mark of a worker, and only while a file exists.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import orjson
import uvloop
from aiohttp import web

from shadow.adapters.orphan import end_with_parent


def serve(port: int, wrong_every: int, wrong_live: bool, wrong_while: Path | None) -> None:
    async def handle(request: web.Request) -> web.Response:
        number = orjson.loads(await request.read())["n"]
        is_wrong = wrong_every > 0 and number % (2 * wrong_every) == 0
        is_wrong &= not wrong_live or "x-shadow" not in request.headers
        is_wrong &= wrong_while is None or wrong_while.exists()
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
    parser.add_argument("--wrong-live", action="store_true")
    parser.add_argument("--wrong-while", type=Path, default=None)
    arguments = parser.parse_args()
    end_with_parent()
    serve(arguments.port, arguments.wrong_every, arguments.wrong_live, arguments.wrong_while)
