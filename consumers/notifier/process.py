"""The notifier's process: one courier for each endpoint, each in a thread of its own, so that none delays another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from consumers.notifier.courier import Courier, Plan
from shadow.metrics import Metrics
from shadow.ports import Clock, Log

log = logging.getLogger("shadow.notifier")

JOIN_S: Final = 9.0


class Notifier:
    """Serves all endpoints.

    Args:
        plans: One for each endpoint.
        log_: The log; each courier takes its own handles.
        metrics: Counters of this process.
        clock: Wall clock.
    """

    def __init__(self, plans: Sequence[Plan], log_: Log, metrics: Metrics, clock: Clock) -> None:
        self._couriers = {plan.name: Courier(plan, log_, metrics, clock) for plan in plans}

    def readiness(self) -> tuple[bool, str]:
        """Whether every courier reads the topic."""
        for name, courier in self._couriers.items():
            is_ready, reason = courier.readiness()
            if not is_ready:
                return False, f"{name}: {reason}"
        return True, "ok"

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop."""
        threads = [
            threading.Thread(target=courier.run, args=(stop,), name=f"courier-{name}", daemon=True)
            for name, courier in self._couriers.items()
        ]
        for thread in threads:
            thread.start()
        log.info("telling %s", ", ".join(self._couriers))
        for thread in threads:
            while thread.is_alive() and not stop.is_set():
                thread.join(0.5)
        for thread in threads:
            thread.join(JOIN_S)
