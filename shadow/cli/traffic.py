"""Send an example's requests through the proxy, as its users would: each once, at a steady rate."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import uvloop

CONCURRENCY = 64


def requests_module(example_dir: Path) -> ModuleType:
    """The example's `requests.py`, loaded by path under a name of its own."""
    name = f"shadow_example_{example_dir.name}_requests"
    spec = importlib.util.spec_from_file_location(name, example_dir / "requests.py")
    assert spec is not None and spec.loader is not None, "a file path always gives a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(slots=True)
class Sent:
    """What the users got so far."""

    sent: int = 0
    failed: int = 0
    statuses: dict[int, int] = field(default_factory=dict)


class Traffic:
    """Sends requests from a thread of its own until they run out or it is told to stop.

    Args:
        url: Where the proxy listens, path included.
        requests: Each with `headers` and a JSON-ready `body`.
        rate_per_s: Requests a second.
    """

    def __init__(self, url: str, requests: Iterable[Any], rate_per_s: float) -> None:
        self.sent = Sent()
        self._url = url
        self._requests = iter(requests)
        self._rate_per_s = rate_per_s
        self._began_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), name="traffic", daemon=True)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop sending and wait for the answers under way."""
        self._stop.set()
        self._thread.join(10.0)

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
            slots = asyncio.Semaphore(CONCURRENCY)
            pending: set[asyncio.Task[None]] = set()
            for request in self._paced():
                await self._wait_for_turn()
                await slots.acquire()
                task = asyncio.create_task(self._send(session, request, slots))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.gather(*pending)

    def _paced(self) -> Iterator[Any]:
        for request in self._requests:
            if self._stop.is_set():
                return
            yield request

    async def _wait_for_turn(self) -> None:
        if self.sent.sent == 0:
            self._began_s = time.monotonic()
        due_s = self._began_s + self.sent.sent / self._rate_per_s
        self.sent.sent += 1
        delay_s = due_s - time.monotonic()
        await asyncio.sleep(max(0.0, delay_s))

    async def _send(self, session: aiohttp.ClientSession, request: Any, slots: asyncio.Semaphore) -> None:
        try:
            async with session.post(self._url, json=request.body, headers=request.headers) as answer:
                await answer.read()
                self.sent.statuses[answer.status] = self.sent.statuses.get(answer.status, 0) + 1
        except (aiohttp.ClientError, TimeoutError):
            self.sent.failed += 1
        finally:
            slots.release()
