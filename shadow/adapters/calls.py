"""Run a model's calls on a loop of its own in one thread, as many at once as the model bears.

The limit is additive increase, multiplicative decrease (AIMD): more while the model answers as fast as it did
with few, half after a time-out or a failure. So a worker neither starves a fast model nor measures a slow
one's queue instead of its speed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import uvloop

from shadow.records.answers import FAILURES, REFUSED
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest

log = logging.getLogger("shadow.worker")

SMOOTHING: Final = 0.05
SLOW: Final = 2.0
"""Answers are slow from this multiple of the shortest smoothed duration on."""
FLOOR_DRIFT: Final = 1.0001
"""Per call; so a model that became slower for good is its own measure after some thousand calls."""
CLOSE_S: Final = 3.0


class Model(Protocol):
    """Something that can be asked what a version answers; it reports failures, and raises none."""

    async def call(self, request: MirroredRequest, role: str, version: str) -> Reply: ...

    async def close(self) -> None: ...


class Limit:
    """How many calls may be under way at once. Pure.

    Args:
        minimum: Lower bound, at least 1; also where it begins.
        maximum: Upper bound.
    """

    def __init__(self, minimum: int, maximum: int) -> None:
        if not 1 <= minimum <= maximum:
            raise ValueError(f"concurrency must have 1 <= min <= max, read min {minimum} and max {maximum}")
        self._minimum = minimum
        self._maximum = maximum
        self._value = float(minimum)
        self._is_first_rise = True
        self._cuts = 0
        self._smoothed_us = 0.0
        self._floor_us = 0.0

    @property
    def calls(self) -> int:
        """Calls that may be under way now."""
        return int(self._value)

    @property
    def cuts(self) -> int:
        """How often the limit was cut; a call remembers it from its start."""
        return self._cuts

    def ended(self, reply: Reply, *, cuts_at_start: int, is_saturated: bool) -> None:
        """Learn from a call that ended.

        Args:
            cuts_at_start: `cuts` when the call began: calls that were under way during a cut cause no other.
            is_saturated: Whether the limit was reached; otherwise it is not what bounds the calls.
        """
        if reply.outcome in FAILURES:
            if cuts_at_start == self._cuts:
                self._cuts += 1
                self._is_first_rise = False
                self._value = max(float(self._minimum), self._value / 2)
            return
        self._smooth(reply.duration_us)
        is_slow = self._smoothed_us > SLOW * self._floor_us
        self._is_first_rise = self._is_first_rise and not is_slow
        if is_saturated and not is_slow:
            # Twice as many each round at first, one more each round later.
            self._value = min(float(self._maximum), self._value + (1.0 if self._is_first_rise else 1.0 / self._value))

    def _smooth(self, duration_us: int) -> None:
        if self._smoothed_us == 0.0:
            self._smoothed_us = self._floor_us = float(duration_us)
            return
        self._smoothed_us += SMOOTHING * (duration_us - self._smoothed_us)
        self._floor_us = min(self._floor_us * FLOOR_DRIFT, self._smoothed_us)


class Budget:
    """A spending cap on a model's calls. It counts the calls of this process since its start.

    The cost of a call is known at its end, so that the cap can be passed by what is under way.

    Args:
        calls: Calls that may be made; None for no cap.
        cost_micro: Cost that may be spent, in micro-units; None for no cap.
    """

    def __init__(self, *, calls: int | None = None, cost_micro: int | None = None) -> None:
        self._calls_max = calls
        self._cost_max_micro = cost_micro
        self._calls = 0
        self._cost_micro = 0

    def refusal(self) -> str | None:
        """Why no call may be made, in one sentence; None where one may."""
        if self._calls_max is not None and self._calls >= self._calls_max:
            return f"the budget of {self._calls_max} calls is spent"
        if self._cost_max_micro is not None and self._cost_micro >= self._cost_max_micro:
            return f"the budget of {self._cost_max_micro / 1e6:g} is spent: {self._cost_micro / 1e6:g}"
        return None

    def began(self) -> None:
        """A call begins."""
        self._calls += 1

    def ended(self, cost_micro: int) -> None:
        """A call ended at this cost."""
        self._cost_micro += cost_micro

    def spent(self) -> float:
        """Share of the budget that is spent, the larger of calls and cost; 0 without a cap."""
        shares = [0.0]
        if self._calls_max is not None:
            shares.append(self._calls / self._calls_max if self._calls_max else 1.0)
        if self._cost_max_micro is not None:
            shares.append(self._cost_micro / self._cost_max_micro if self._cost_max_micro else 1.0)
        return max(shares)


@dataclass(frozen=True, slots=True)
class Job:
    """A request to put to the model; the token comes back with the reply."""

    token: Any
    request: MirroredRequest


class Calls:
    """Calls of one model for one role. Its methods are for one thread, the worker's.

    Args:
        model: Used on this object's loop only.
        limit: Used on this object's loop only.
        budget: Used on this object's loop only.
    """

    def __init__(self, model: Model, role: str, version: str, limit: Limit, budget: Budget) -> None:
        self._model = model
        self._role = role
        self._version = version
        self._limit = limit
        self._budget = budget
        self._waiting: deque[Job] = deque()
        self._running: dict[asyncio.Task[None], Job] = {}
        self._finished: deque[tuple[Any, Reply]] = deque()
        self._is_stopped = False
        self._is_closed = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="calls", daemon=True)
        self._thread.start()

    @property
    def inflight(self) -> int:
        """Calls that are under way."""
        return len(self._running)

    @property
    def limit(self) -> int:
        """Calls that may be under way at once."""
        return self._limit.calls

    def submit(self, jobs: list[Job]) -> None:
        """Call the model for these when the limit allows, in order."""
        if jobs and not self._is_closed:
            self._loop.call_soon_threadsafe(self._take, jobs)

    def finished(self) -> Iterable[tuple[Any, Reply]]:
        """Replies since the last time, in the order in which they ended."""
        while self._finished:
            yield self._finished.popleft()

    def forget(self, is_lost: Callable[[Any], bool]) -> None:
        """Give up the jobs whose token is lost; a call under way is cut off. Replies may still come out."""
        if not self._is_closed:
            self._loop.call_soon_threadsafe(self._forget, is_lost)

    def stop(self) -> None:
        """Begin no more calls; those under way go on."""
        if not self._is_closed:
            self._loop.call_soon_threadsafe(self._stop)

    def close(self) -> None:
        """Cut off what is under way, close the model, and end the thread; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_S)

    # On the loop.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._end())
        finally:
            self._loop.close()

    async def _end(self) -> None:
        self._stop()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._model.close()

    def _stop(self) -> None:
        self._is_stopped = True
        self._waiting.clear()

    def _take(self, jobs: list[Job]) -> None:
        if not self._is_stopped:
            self._waiting.extend(jobs)
            self._pump()

    def _forget(self, is_lost: Callable[[Any], bool]) -> None:
        self._waiting = deque(job for job in self._waiting if not is_lost(job.token))
        for task, job in list(self._running.items()):
            if is_lost(job.token):
                task.cancel()

    def _pump(self) -> None:
        while self._waiting and len(self._running) < self._limit.calls:
            job = self._waiting.popleft()
            refusal = self._budget.refusal()
            if refusal is not None:
                reply = Reply(REFUSED, started_us=time.time_ns() // 1000, error=refusal)
                self._finished.append((job.token, reply))
                continue
            self._budget.began()
            task = self._loop.create_task(self._call(job))
            self._running[task] = job
            task.add_done_callback(self._ended)

    async def _call(self, job: Job) -> None:
        cuts = self._limit.cuts
        is_saturated = bool(self._waiting)
        try:
            reply = await self._model.call(job.request, self._role, self._version)
        except Exception as error:  # a defect of ours: nobody is blamed, and the partition goes on
            log.exception("calling the model failed in Shadow itself")
            reply = Reply(
                REFUSED,
                started_us=time.time_ns() // 1000,
                error=f"the call failed in the worker itself: {type(error).__name__}",
            )
        self._budget.ended(reply.cost_micro)
        self._limit.ended(reply, cuts_at_start=cuts, is_saturated=is_saturated)
        self._finished.append((job.token, reply))

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not self._is_stopped:
            self._pump()
