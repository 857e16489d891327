"""Clients that go on asking, at a steady rate, whatever happens behind the proxy."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import aiohttp

from tests.flow.harness import wait_until

_SPAN_S = 0.05


class Traffic:
    """Numbered requests in a thread until told to stop; a context manager.

    Args:
        port: Of the proxy.
        rate: Requests per second that are begun; fewer where the answers do not keep up.
        concurrency: Requests under way at once.
        body_bytes: Padding in each request.
    """

    def __init__(self, port: int, *, rate: int = 400, concurrency: int = 32, body_bytes: int = 0) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/double"
        self._per_span = max(1, round(rate * _SPAN_S))
        self._concurrency = concurrency
        self._padding = "x" * body_bytes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic", daemon=True)
        self._error: BaseException | None = None
        self.sent = 0
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the clients did not end"

    def more(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        self.until(self.sent + count)

    def until(self, count: int, *, timeout_s: float = 120.0) -> None:
        """Wait until so many requests were answered in all."""
        wait_until(
            lambda: self.sent >= count or not self._thread.is_alive(), f"{count} requests are answered", timeout_s
        )
        if self._error is not None:
            raise self._error
        assert self._thread.is_alive(), "the clients ended"

    async def _run(self) -> None:
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self._concurrency)) as session:
                number = 0
                while not self._stop.is_set():
                    span = asyncio.create_task(asyncio.sleep(_SPAN_S))
                    await asyncio.gather(*(self._ask(session, number + each) for each in range(self._per_span)))
                    number += self._per_span
                    await span
        except (aiohttp.ClientError, OSError) as error:
            self._error = error

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        body = {"n": number, "even": number % 2 == 0, "metadata": {"answer": str(number * 2)}, "padding": self._padding}
        headers = {"x-session-id": f"session-{number}"}
        async with session.post(self._url, json=body, headers=headers) as answer:
            await answer.read()
        self.statuses[answer.status] += 1
        self.sent += 1
