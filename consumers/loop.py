"""The life of a process, the same for all: signals, waiting for services, draining, the end.

SIGTERM or SIGINT  ->  the stop flag is set; the loop ends after its step; what is under way drains
a second one       ->  the process ends at once
drain takes > 10 s ->  the process ends, and says so; what was not finished is done again by the next one
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from shadow.adapters.logs import Repeated
from shadow.errors import Unavailable

log = logging.getLogger("shadow.loop")

DRAIN_S: Final = 10.0
WAIT_S: Final = 0.5
JOIN_S: Final = 0.1
SAY_EVERY_S: Final = 5.0


class WallClock:
    """The real clock, as the port wants it."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000


class Readiness:
    """Whether a process can work now, told by its loop and read by its admin port; threads may share it."""

    def __init__(self, reason: str = "starting") -> None:
        self._state = (False, reason)

    def __call__(self) -> tuple[bool, str]:
        return self._state

    def ready(self) -> None:
        """The process can work."""
        self._state = (True, "ok")

    def not_ready(self, reason: str) -> None:
        """The process cannot work, for this reason."""
        self._state = (False, reason)


def wait_for(
    service: str, check: Callable[[], object], stop: threading.Event, readiness: Readiness | None = None
) -> bool:
    """Try a service until it answers, with a line every few seconds.

    Args:
        service: Name for the line, for example `kafka`.
        check: Raises Unavailable as long as the service does not answer.
        stop: Ends the waiting.
        readiness: Told why the process waits.

    Returns:
        True once the service answered, False if told to stop before.
    """
    trouble = Repeated(log, every_s=SAY_EVERY_S)
    has_waited = False
    while not stop.is_set():
        try:
            check()
        except Unavailable as error:
            has_waited = True
            if readiness is not None:
                readiness.not_ready(f"waiting for {service}: {error}")
            trouble.warning("waiting for %s: %s", service, error)
            stop.wait(WAIT_S)
            continue
        if has_waited:
            log.info("%s answers", service)
        return True
    return False


@contextlib.contextmanager
def stopping_on_signals(drain_s: float = DRAIN_S) -> Iterator[threading.Event]:
    """Give a stop flag that SIGTERM and SIGINT set; the old handlers come back at the end. Main thread only.

    Args:
        drain_s: How long the process may go on after the first signal.
    """
    stop = threading.Event()
    is_over = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        threading.Thread(target=_end_late, args=(is_over, drain_s), name="drain", daemon=True).start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        is_over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    name: str,
    step: Callable[[], object],
    close: Callable[[], object],
    *,
    stop: threading.Event | None = None,
    drain_s: float = DRAIN_S,
) -> int:
    """Repeat a step until told to stop, then close.

    Args:
        name: Name of the process, for its log lines.
        step: One short turn of the loop; must return within a second or so.
        close: Drains; called once, also where a step raised.
        stop: Stop flag of the caller, who then handles the signals; None: SIGTERM and SIGINT are handled here.

    Returns:
        The exit code 0.
    """

    def body(flag: threading.Event) -> None:
        try:
            while not flag.is_set():
                step()
        finally:
            close()

    if stop is not None:
        body(stop)
        return 0
    return serve(name, body, drain_s=drain_s)


def serve(name: str, body: Callable[[threading.Event], object], *, drain_s: float = DRAIN_S) -> int:
    """Run a process that brings its own loop until SIGTERM or SIGINT, and let it drain.

    Args:
        body: Gets the stop flag; returns when it has drained. Runs on a thread of its own.

    Returns:
        The exit code 0.
    """
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            body(stop)
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            failures.append(error)

    # Python runs signal handlers on the main thread between calls: a client that blocks there would hold them up.
    with stopping_on_signals(drain_s) as stop:
        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(JOIN_S)
        if failures:
            raise failures[0]
        logging.getLogger(f"shadow.{name}").info("stopped")
    return 0


def _end_late(is_over: threading.Event, drain_s: float) -> None:
    if not is_over.wait(drain_s):
        log.warning("the drain takes longer than %g s; ending now, the rest is done again by the next process", drain_s)
        logging.shutdown()
        os._exit(0)
