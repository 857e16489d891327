"""The candidates' connections, and which requests go to them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from shadow.proxy.config import Endpoint
from shadow.proxy.copies import Copy
from shadow.proxy.pool import UpstreamPool
from shadow.proxy.routing import Route, Routing

_log = logging.getLogger("shadow.proxy")

MakePool = Callable[[Endpoint, bool], UpstreamPool]
"""Makes the connections to one candidate; the flag says whether it is spoken to in TLS."""


class Candidates:
    """See the module. `is_on` is the kill switch: False takes the share to 0 at once."""

    def __init__(self, routing: Routing, make_pool: MakePool) -> None:
        self.is_on = True
        self._routing = routing
        self._make_pool = make_pool
        self._pools: dict[str, UpstreamPool | None] = {}

    @property
    def share(self) -> float:
        """Share of the sessions that a candidate serves now."""
        route = self._routing.route() if self.is_on else None
        return 0.0 if route is None or self._pool_of(route) is None else route.share

    def pool_for(self, copy: Copy) -> UpstreamPool | None:
        """Where the candidate serves this request; None where production does. Notes in the copy why."""
        route = self._routing.route() if self.is_on else None
        if route is None:
            return None
        copy.decision_id = route.decision_id
        pool = self._pool_of(route) if route.takes(copy.key) else None
        if pool is not None:
            copy.candidate = route.version
        return pool

    def _pool_of(self, route: Route) -> UpstreamPool | None:
        try:
            return self._pools[route.upstream]
        except KeyError:
            pool = self._pools[route.upstream] = self._made(route)
            return pool

    def _made(self, route: Route) -> UpstreamPool | None:
        try:
            url = urlsplit(route.upstream)
            port = url.port
        except ValueError:
            url, port = urlsplit(""), None
        if url.scheme not in ("http", "https") or not url.hostname or url.path not in ("", "/"):
            _log.warning(
                "The decision %s names the upstream %r, which is no address such as http://candidate:8000; production "
                "serves everything.",
                route.decision_id,
                route.upstream[:200],
            )
            return None
        is_tls = url.scheme == "https"
        return self._make_pool(Endpoint(url.hostname, port or (443 if is_tls else 80)), is_tls)

    def sweep(self, now_s: float) -> None:
        """Close what was idle too long."""
        for pool in self._pools.values():
            if pool is not None:
                pool.sweep(now_s)

    def close(self) -> None:
        """Close everything at once."""
        for pool in self._pools.values():
            if pool is not None:
                pool.close()
