"""Send a share of the sessions to the candidate, as the newest decision says, while it is known to be the newest.

    shadow-decisions --read to the end, 4 times a second--> Route + when the end was confirmed
                                                              |
    key --hash with the salt--> u < share ?  candidate : production

A share holds only while the end of the topic was confirmed within the last seconds, so that a rollback that cannot be
read is not overlooked; else it is 0.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shadow.errors import ShadowError
from shadow.proxy.sampling import u_of
from shadow.records.decisions import ROLLBACK, Command, Decision, DecisionsRecord, Started

_log = logging.getLogger("shadow.proxy")

CONFIRMED_S: Final = 5.0
"""How long a share holds after the end of the topic was confirmed."""
_READ_S: Final = 0.25
_COMPLAINT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Route:
    """What a decision says about live traffic.

    Args:
        version: Name of the candidate.
        share: Of the sessions, in [0, 1].
        salt: Makes one run's choice of sessions independent of another's.
        upstream: Where the candidate serves, `http://host:port`.
    """

    run: str
    decision_id: str
    version: str
    share: float
    salt: str
    upstream: str

    def takes(self, key: str) -> bool:
        """Whether the candidate serves a session; one that it serves stays with it while the share grows."""
        return self.share > 0.0 and u_of(f"{self.salt}/{key}") < self.share


def route_in(records: Iterable[DecisionsRecord], production: str) -> Route | None:
    """The route in force after these records; None where production serves everything.

    One run at a time has live traffic: while one has, what others decide changes nothing. A person's rollback ends a
    run's live traffic for good, whether its gate is there to obey or not.

    Args:
        records: Of `shadow-decisions`, in order.
        production: Runs against another version are none of this proxy's.
    """
    candidates: dict[str, str] = {}
    route: Route | None = None
    for record in records:
        if isinstance(record, Started):
            if record.production == production:
                candidates[record.run] = record.candidate
        elif record.run not in candidates:
            continue
        elif isinstance(record, Command):
            if record.command == ROLLBACK:
                del candidates[record.run]
                route = None if route is not None and route.run == record.run else route
        elif isinstance(record, Decision) and (route is None or route.run == record.run):
            route = _route_of(record, candidates[record.run])
    return route


def _route_of(decision: Decision, version: str) -> Route | None:
    routing = decision.routing
    if routing is None or not 0.0 < routing.share <= 1.0:
        return None
    return Route(decision.run, decision.decision_id, version, routing.share, routing.salt, routing.upstream)


class Routing:
    """The route in force, as it was last confirmed. Read on the event loop, written by one other thread."""

    def __init__(self, confirmed_s: float = CONFIRMED_S) -> None:
        self._confirmed_s = confirmed_s
        self._state: tuple[Route | None, float] = (None, float("-inf"))

    def confirm(self, route: Route | None, at_s: float) -> None:
        """Take over what the topic said.

        Args:
            at_s: On the monotonic clock, before its end was asked for.
        """
        self._state = (route, at_s)

    def route(self) -> Route | None:
        """The route in force; None where production serves everything, or nothing is known for sure."""
        route, at_s = self._state
        if route is None or time.monotonic() - at_s > self._confirmed_s:
            return None
        return route


class RoutingFollower:
    """Keeps a `Routing` up to date in a thread of its own, whatever the log does.

    Args:
        read: All records of the topic, to an end that was asked for after the call began; may block, and raise a
            ShadowError.
        production: The version that this proxy stands in front of.
    """

    def __init__(self, routing: Routing, read: Callable[[], Sequence[DecisionsRecord]], production: str) -> None:
        self._routing = routing
        self._read = read
        self._production = production
        self._stop = threading.Event()
        self._complained_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="shadow-routing", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, once its current question is answered or within a second."""
        self._stop.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        shown: Route | None = None
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                route = route_in(self._read(), self._production)
            except Exception as error:  # noqa: BLE001 - the share runs out by itself; logged, and tried again
                self._complain(error)
            else:
                self._routing.confirm(route, began_s)
                if route != shown:
                    _log.info("%s", _sentence(route))
                    shown = route
            self._stop.wait(_READ_S)

    def _complain(self, error: Exception) -> None:
        now_s = time.monotonic()
        if now_s - self._complained_s >= _COMPLAINT_S:
            self._complained_s = now_s
            text = str(error) if isinstance(error, ShadowError) else type(error).__name__
            _log.warning("The decisions cannot be read, so production serves everything: %s", text)


def _sentence(route: Route | None) -> str:
    if route is None:
        return "Production serves every session."
    return f"{route.version} serves {route.share:.4g} of the sessions, by decision {route.decision_id}."
