"""Start the examples' services as real processes, and ask them."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ASSISTANT, DIGITS = EXAMPLES / "assistant", EXAMPLES / "digits"
START_S = 60.0


def module_at(path: Path) -> ModuleType:
    """Load an example's module by path, under a name that hides no other module."""
    name = f"example_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Service:
    """A running service of an example."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def service(script: Path) -> Iterator[Service]:
    """Start a service on a free port, wait for the line that says it is ready, and stop it at the end."""
    command = [sys.executable, str(script), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert " is ready on http://127.0.0.1:" in line
            yield Service(line.split()[-1], process)
        finally:
            process.terminate()
            rest = process.stderr.read()
        assert rest == "", rest
        assert process.wait(START_S) == 0


def ask(url: str, requests: Sequence[tuple[str, Mapping[str, str], object]]) -> list[Any]:
    """Post requests, 32 at a time, and return the JSON replies in order."""

    async def run() -> list[Any]:
        replies: list[Any] = [None] * len(requests)
        waiting = iter(enumerate(requests))

        async def client(session: aiohttp.ClientSession) -> None:
            for index, (path, headers, body) in waiting:
                async with session.post(url + path, json=body, headers=headers) as response:
                    assert response.status == 200
                    replies[index] = await response.json()

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(client(session) for _ in range(32)))
        return replies

    return asyncio.run(run())
