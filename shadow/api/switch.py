"""`POST /v1/off` and `/v1/on` on a proxy's admin port: the kill switch, which needs nothing but the process.

Off, nothing is copied and production serves every session; live requests go on. 200 {"is_on": false}.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson
from aiohttp import web

from shadow.api.guard import Guard, Refusal

log = logging.getLogger("shadow.switch")


class SwitchApi:
    """The routes.

    Args:
        guard: Says who may switch.
        switch: Switches this process on or off; called on the admin server's thread.
    """

    def __init__(self, guard: Guard, switch: Callable[[bool], None]) -> None:
        self._guard = guard
        self._switch = switch

    def routes(self) -> list[web.RouteDef]:
        """What the admin server serves."""
        return [web.post("/v1/off", self._off), web.post("/v1/on", self._on)]

    async def _off(self, request: web.Request) -> web.Response:
        return self._switched(request, False)

    async def _on(self, request: web.Request) -> web.Response:
        return self._switched(request, True)

    def _switched(self, request: web.Request, is_on: bool) -> web.Response:
        try:
            self._guard.check(request)
        except Refusal as refusal:
            return refusal.response()
        self._switch(is_on)
        log.warning("switched %s: %s", "on" if is_on else "off", "as configured" if is_on else "no copies, share 0")
        return web.Response(body=orjson.dumps({"is_on": is_on}), content_type="application/json")
