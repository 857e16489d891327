"""Put graders' questions to their services, from a loop of its own in one thread.

The comparator is a synchronous loop: it submits questions, goes on, and collects what is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from typing import Any, Final

import aiohttp
import orjson
import uvloop

from shadow.records.grades import Ask

REPLY_BYTES_MAX: Final = 1 << 20
IDLE_S: Final = 2.0
CLOSE_S: Final = 3.0


class AskPool:
    """Asks services over HTTP, at most so many at once.

    A question is put once; whether to put it again is for the caller to decide.

    Args:
        concurrency: Calls under way at once; the others wait in order.
        reply_bytes_max: A longer reply is an error.
    """

    def __init__(self, *, concurrency: int = 32, reply_bytes_max: int = REPLY_BYTES_MAX) -> None:
        self._concurrency = concurrency
        self._reply_bytes_max = reply_bytes_max
        self._finished: deque[tuple[Any, bytes | None, str | None]] = deque()
        self._pending = 0
        self._loop = uvloop.new_event_loop()
        self._is_closed = False
        self._session: aiohttp.ClientSession | None = None
        self._slots: asyncio.Semaphore | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="asks", daemon=True)
        self._thread.start()

    def submit(self, ask: Ask, token: Any) -> None:
        """Put a question; its result comes out of `finished` with the same token."""
        if self._is_closed:
            return
        self._pending += 1
        self._loop.call_soon_threadsafe(self._begin, ask, token)

    def pending(self) -> int:
        """Questions submitted whose results were not collected."""
        return self._pending

    def finished(self) -> list[tuple[Any, bytes | None, str | None]]:
        """Results since the last call, each (token, reply or None, error or None)."""
        results = []
        while self._finished:
            results.append(self._finished.popleft())
        self._pending -= len(results)
        return results

    def close(self) -> None:
        """Give up what is under way and end the thread; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._end())
        finally:
            self._loop.close()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _begin(self, ask: Ask, token: Any) -> None:
        task = self._loop.create_task(self._put(ask, token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put(self, ask: Ask, token: Any) -> None:
        if self._slots is None:
            self._slots = asyncio.Semaphore(self._concurrency)
        async with self._slots:
            reply, error = await self._call(ask)
        self._finished.append((token, reply, error))

    async def _call(self, ask: Ask) -> tuple[bytes | None, str | None]:
        budget_s = ask.budget_us / 1e6
        try:
            async with asyncio.timeout(budget_s):
                return await self._post(ask)
        except TimeoutError:
            return None, f"{ask.url} did not answer within {budget_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError, TypeError, RecursionError) as error:
            return None, f"{ask.url} could not be asked: {_words(error)}"

    async def _post(self, ask: Ask) -> tuple[bytes | None, str | None]:
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        async with self._opened().post(
            ask.url, data=_json(ask.payload), headers=headers, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._reply_bytes_max:
                    response.close()
                    return None, f"{ask.url} answered with more than {self._reply_bytes_max} bytes"
            if response.status != 200:
                return None, f"{ask.url} answered with status {response.status}"
            return bytes(body), None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                trust_env=False,
            )
        return self._session


def _json(payload: Any) -> bytes:
    # orjson refuses lone surrogates and large integers, which traffic may contain; the standard library takes them.
    with contextlib.suppress(TypeError):
        return orjson.dumps(payload)
    return json.dumps(payload, allow_nan=False).encode()


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
