"""A thread that owns one thing which blocks, such as a Kafka client: calls wait for their turn, each gets its result.

Neither probes nor the gate's own loop ever wait for it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Generic, Protocol, TypeVar

from shadow.api.guard import Refusal

WAITING_MAX: Final = 8
"""Calls that wait for their turn; one more is told to come again."""
JOIN_S: Final = 2.0


class Closable(Protocol):
    """What is owned."""

    def close(self) -> None: ...


Owned = TypeVar("Owned", bound=Closable)


class Clerk(Generic[Owned]):
    """The thread.

    Args:
        name: Of the thread.
        open_: Makes what is owned, on the thread.
        prepare: Called with it before the first call; says its own trouble.
    """

    def __init__(
        self, name: str, open_: Callable[[], Owned], prepare: Callable[[Owned], object] = lambda owned: None
    ) -> None:
        self._open = open_
        self._prepare = prepare
        self._calls: queue.SimpleQueue[tuple[Callable[[Owned], Any], Future[Any]] | None] = queue.SimpleQueue()
        # A daemon, because a call that waits for Kafka must not hold up the process's end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[Owned], Any]) -> Future[Any]:
        """Have a call made; Refusal with 429 where too many wait."""
        if self._calls.qsize() >= WAITING_MAX:
            raise Refusal(429, f"{WAITING_MAX} calls wait already; come again", headers={"retry-after": "1"})
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def stop(self) -> None:
        """End the thread once its current call is answered, or within two seconds."""
        self._calls.put(None)
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        owned = self._open()
        self._prepare(owned)
        while (item := self._calls.get()) is not None:
            call, future = item
            if not future.set_running_or_notify_cancel():
                continue  # whoever called has not waited so long
            try:
                future.set_result(call(owned))
            except BaseException as error:  # noqa: BLE001 - raised again where the call waits
                future.set_exception(error)
        owned.close()
