"""A model server of its own process that doubles a number, and breaks HTTP on a known share of the requests."""

from __future__ import annotations

import argparse
import asyncio
import json

from shadow.adapters.orphan import end_with_parent

HANG_S = 30.0
FAULTS = ("garbage", "noise", "close", "cut", "hang", "500")
"""In this order the first numbers of every so many requests meet the faults."""


def fault_of(number: int, every: int, faults: tuple[str, ...]) -> str:
    """The fault that a number meets; empty for a right answer."""
    at = number % every
    return faults[at] if at < len(faults) else ""


def framed(status: str, body: bytes, *, missing: int = 0) -> bytes:
    """An HTTP answer whose last bytes may be missing."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body) + missing}\r\n\r\n"
    return head.encode() + body


async def answer(number: int, fault: str, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; returns whether the connection goes on."""
    right = json.dumps({"answer": f"twice {number} is <answer>{number * 2}</answer>"}).encode()
    if fault == "hang":
        await asyncio.sleep(HANG_S)
    sent = {
        "garbage": b"\x00\xff\x16\x03 this is no HTTP \r\n\r\n" + bytes(range(256)),
        "noise": framed("200 OK", bytes(range(256))),
        "close": b"",
        "cut": framed("200 OK", right[:-5], missing=5),
        "500": framed("500 Internal Server Error", b'{"error": "broken"}'),
    }
    writer.write(sent.get(fault, framed("200 OK", right)))
    await writer.drain()
    return fault in ("", "noise", "500")


async def serve(port: int, every: int, faults: tuple[str, ...]) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            is_open = True
            while is_open:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(head.partition("content-length:")[2].split("\r\n")[0])
                number = json.loads(await reader.readexactly(length))["n"]
                is_open = await answer(number, fault_of(number, every, faults), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller left, as it does after its deadline
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--every", type=int, default=40)
    parser.add_argument("--fault", action="append", choices=FAULTS, default=[])
    arguments = parser.parse_args()
    end_with_parent()
    asyncio.run(serve(arguments.port, arguments.every, tuple(arguments.fault)))
