"""Call a model that is a Python function, in a bounded pool of threads.

A thread cannot be ended from outside: a call that passes its deadline is a time-out and its thread goes on
with it. When every thread hangs, all further calls are time-outs too, and nothing grows.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from shadow.errors import Usage
from shadow.records.answers import ANSWERED, ERROR, TIMEOUT, TOO_LARGE
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest
from shadow.usage import Price, tokens_of

BODY_BYTES_MAX: Final = 1 << 20

Function = Callable[[dict[str, Any]], Any]
_Job = tuple[dict[str, Any], "asyncio.Future[bytes | BaseException]", asyncio.AbstractEventLoop]


class PythonModel:
    """A function `module:function` as a model.

    It gets `{"method", "path", "headers", "body", "json"}` (`json` is None where the body is not JSON) and
    returns text, bytes, or a JSON-ready dictionary. Whatever it raises, SystemExit included, is an `error`.
    It runs inside the worker, which it can end by `os._exit` or by a fault of the interpreter.

    Args:
        target: `module:function`; the working directory is searched too.
        deadline_us: Longest time from the call's start to its end.
        threads: Calls that can run at once.
        price: Price of the tokens that an OpenAI-shaped dictionary states.
        cost_max_micro: A reply that costs more is a failure; None for no cap.

    Raises:
        Usage: If there is no such function, or it is a coroutine.
    """

    def __init__(
        self,
        target: str,
        *,
        deadline_us: int,
        threads: int = 8,
        body_bytes_max: int = BODY_BYTES_MAX,
        price: Price | None = None,
        cost_max_micro: int | None = None,
    ) -> None:
        self._function = function_of(target)
        self._deadline_us = deadline_us
        self._threads_max = threads
        self._threads: list[threading.Thread] = []
        self._body_bytes_max = body_bytes_max
        self._price = price or Price()
        self._cost_max_micro = cost_max_micro
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._pending = 0

    async def call(self, request: MirroredRequest, role: str, version: str) -> Reply:
        """Put a recorded request to the function; role and version are not told."""
        started_us = time.time_ns() // 1000
        began_ns = time.perf_counter_ns()
        outcome, body, kind, error = await self._ask(request)
        duration_us = max(1, (time.perf_counter_ns() - began_ns) // 1000)
        prompt, completion = tokens_of(body, is_stream=False)
        cost_micro = self._price.cost_micro(prompt, completion)
        if self._cost_max_micro is not None and cost_micro > self._cost_max_micro:
            outcome, body = ERROR, b""
            error = f"the reply costs {cost_micro / 1e6:g}, more than the cap of {self._cost_max_micro / 1e6:g}"
        is_answered = outcome == ANSWERED
        return Reply(
            outcome=outcome,
            status=200 if is_answered else 0,
            headers={"content-type": kind} if is_answered else {},
            body=body,
            started_us=started_us,
            first_byte_us=duration_us if is_answered else 0,
            duration_us=duration_us,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_micro=cost_micro,
            error=error,
        )

    async def close(self) -> None:
        """Let idle threads end; one that hangs ends with the process."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    async def _ask(self, request: MirroredRequest) -> tuple[str, bytes, str, str | None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._pending += 1
        if len(self._threads) < min(self._pending, self._threads_max):
            thread = threading.Thread(target=self._work, name="model", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((_argument(request), future, loop))
        try:
            async with asyncio.timeout(self._deadline_us / 1e6):
                value = await future
        except TimeoutError:
            return TIMEOUT, b"", "", f"no reply within {self._deadline_us / 1e6:g} s"
        finally:
            self._pending -= 1
        if isinstance(value, BaseException):
            return ERROR, b"", "", f"the function raised {_words(value)}"
        try:
            body, kind = _body(value)
        except (TypeError, ValueError, RecursionError) as trouble:
            return ERROR, b"", "", f"the function's value cannot be an answer: {_words(trouble)}"
        if len(body) > self._body_bytes_max:
            return TOO_LARGE, b"", "", f"the reply has {len(body)} bytes, more than the {self._body_bytes_max} kept"
        return ANSWERED, body, kind, None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            argument, future, loop = job
            if future.cancelled():
                continue
            try:
                value = self._function(argument)
            except BaseException as error:  # noqa: BLE001 - it becomes the Answer's error: a model's failure is data
                value = error
            try:
                loop.call_soon_threadsafe(_settle, future, value)
            except RuntimeError:
                return  # the loop is closed: the worker has ended, nobody waits


def function_of(target: str) -> Function:
    """The function that `module:function` names.

    Raises:
        Usage: If it cannot be imported, is not there, or is a coroutine.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise Usage(f"python model: read {target!r}, must be module:function")
    if "" not in sys.path and "." not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise Usage(f"python model {target}: the module has no {name}") from error
    except Exception as error:
        raise Usage(f"python model {target}: the module cannot be imported: {_words(error)}") from error
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise Usage(f"python model {target}: must be an ordinary function")
    return found  # type: ignore[no-any-return]


def _argument(request: MirroredRequest) -> dict[str, Any]:
    try:
        parsed = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        parsed = None
    return {
        "method": request.method,
        "path": request.path,
        "headers": dict(request.headers),
        "body": request.body,
        "json": parsed,
    }


def _body(value: Any) -> tuple[bytes, str]:
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    if isinstance(value, bytes | bytearray):
        return bytes(value), "application/octet-stream"
    if isinstance(value, dict):
        return json.dumps(value, allow_nan=False).encode(), "application/json"
    raise TypeError(f"a {type(value).__name__}; it must return text, bytes or a dictionary")


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _words(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # noqa: BLE001 - an exception class of the model may not even print; its name is the message
        text = ""
    name = type(error).__name__
    return (f"{name}: {text}" if text else name).encode("utf-8", "replace").decode()
