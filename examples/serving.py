"""Run one small HTTP service of an example: serve on loopback, say when ready, end with a signal or the parent."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

HOST: Final = "127.0.0.1"
PARENT_POLL_S: Final = 1.0
CLOSE_S: Final = 0.1
"""How long calls in flight may still run after the signal; a client sees them cut off, as with any killed service."""
PR_SET_PDEATHSIG: Final = 1


def port_from(arguments: Sequence[str] | None, summary: str) -> int:
    """The port that the command line asks for; 0 takes a free one.

    Exits with status 2 and one sentence if the arguments are not understood.
    """
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1; 0 takes a free one")
    port: int = parser.parse_args(arguments).port
    if not 0 <= port <= 65_535:
        parser.error(f"argument --port: {port} is no TCP port, which is a number from 0 to 65535")
    return port


def run(app: web.Application, *, name: str, port: int) -> int:
    """Serve until SIGTERM, SIGINT or the parent's end, and return the exit status.

    Prints one line to standard error once connections are accepted, and nothing else.

    Args:
        app: What to serve.
        name: Name in the line that says the service is ready.
        port: From 0 to 65535; 0 takes a free one, which the line names.

    Returns:
        0 after a signal, 2 where the port cannot be taken.
    """
    _end_with_parent()
    logging.getLogger("aiohttp.server").addFilter(_is_fault_of_ours)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(app, name, port))


async def _serve(app: web.Application, name: str, port: int) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as trouble:
        await runner.cleanup()
        print(f"{name}: port {port} on {HOST} cannot be taken: {os.strerror(trouble.errno or 0)}", file=sys.stderr)
        return 2
    print(f"{name} is ready on http://{HOST}:{runner.addresses[0][1]}", file=sys.stderr, flush=True)
    parent = os.getppid()
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), PARENT_POLL_S)
        except TimeoutError:
            # Linux signals the parent's end; elsewhere only the changed id of the parent shows it.
            if os.getppid() != parent:
                break
    await runner.cleanup()
    return 0


def _is_fault_of_ours(record: logging.LogRecord) -> bool:
    """Whether a log record tells of more than a client that sent garbage (it got 400) or left in the middle."""
    trouble = record.exc_info[1] if record.exc_info else None
    return not isinstance(trouble, BadHttpMessage | ConnectionError)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent's thread that started this process ends (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    expected = os.environ.get("SHADOW_PARENT_PID", "")
    if expected.isdigit() and os.getppid() != int(expected):
        # The parent ended before the call above, so no signal will come.
        sys.exit(0)
