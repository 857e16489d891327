"""`POST /v1/answers` on the gate's admin port: people's answers, as `shadow answers import` takes them.

    {"run": "…", "answers": [{"position": "0/4711", "request_id": "…", "answer": "…", "by": "ada"}], "late": false}

202 {"run", "written", "skipped", "late"}; anything else is {"error": sentence, "problems": [sentences]}, and then
nothing was written, except where a 503 says otherwise. All answers of a call are taken, or none. The same call may be
made again at any time: what stands in the log already is skipped.

The log is asked by a thread of the run, so that neither probes nor the gate's own loop ever wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from shadow.api.body import json_body
from shadow.api.clerk import Clerk
from shadow.api.guard import Guard, Refusal
from shadow.desk.intake import Desk, Receipt, Rejected
from shadow.desk.lines import line_from_tree
from shadow.desk.plan import DeskPlan
from shadow.errors import BrokenEvidence, InvalidRecord, Unavailable, Usage
from shadow.gate.strict_json import shown, strict_object
from shadow.ports import Clock, Log

log = logging.getLogger("shadow.answers")

TAKE_S: Final = 30.0
"""How long a client waits for the log."""
AGAIN_S: Final = 5

_KEYS: Final = ("run", "answers", "late")


@dataclass(frozen=True, slots=True)
class _Call:
    run: str
    answers: list[Any]
    with_late: bool


def _prepare(desk: Desk) -> None:
    """Long before the first answer there is time to read what stands in the log."""
    try:
        desk.prepare()
    except (Unavailable, BrokenEvidence) as trouble:
        log.info("answers of people are read when the first one comes: %s", trouble)


class AnswersApi:
    """The route, and the run that it serves at the moment.

    Args:
        host: Address on which the port listens.
        token: What a client must send as bearer token; None: nothing, and then the loopback only is served.
    """

    def __init__(self, host: str, token: str | None) -> None:
        self._guard = Guard(host, token, "answers are taken")
        self._plan: DeskPlan | None = None
        self._clerk: Clerk[Desk] | None = None
        self._asks_nobody = ""

    def routes(self) -> list[web.RouteDef]:
        """What the admin server serves."""
        return [web.post("/v1/answers", self._post)]

    @contextmanager
    def serving(self, log_: Log, plan_of: Callable[[], DeskPlan], clock: Clock) -> Iterator[None]:
        """Take answers of a run as long as the context lasts.

        Args:
            plan_of: Makes the plan; Usage says why people are not asked in this run, and so do all replies then.
        """
        try:
            plan = plan_of()
        except Usage as reason:
            self._asks_nobody = str(reason)
        else:
            self._clerk = Clerk("answers", lambda: Desk(log_, plan, clock), _prepare)
            self._plan = plan
        try:
            yield
        finally:
            self._asks_nobody, self._plan = "", None
            clerk, self._clerk = self._clerk, None
            if clerk is not None:
                clerk.stop()

    async def _post(self, request: web.Request) -> web.Response:
        try:
            self._guard.check(request)
            call = _call_of(await json_body(request))
            receipt = await self._take(call)
        except Refusal as refusal:
            return refusal.response()
        log.info("run %s: %d answers of people written, %d were there", call.run, receipt.written, receipt.skipped)
        taken = {
            "run": call.run,
            "written": receipt.written,
            "skipped": receipt.skipped,
            "late": receipt.late,
        }
        return web.Response(status=202, body=orjson.dumps(taken), content_type="application/json")

    async def _take(self, call: _Call) -> Receipt:
        plan, clerk = self._plan, self._clerk
        if plan is None or clerk is None:
            if self._asks_nobody:
                raise Refusal(404, self._asks_nobody)
            raise Refusal(503, "this gate has no run to judge at the moment", headers={"retry-after": str(AGAIN_S)})
        if call.run != plan.run:
            raise Refusal(404, f"this gate judges the run {plan.run}, not {shown(call.run)}")
        lines = [
            line_from_tree(tree, f"answers[{index}]", run=plan.run, body_bytes_max=plan.body_bytes_max)
            for index, tree in enumerate(call.answers)
        ]
        future = clerk.submit(lambda desk: desk.take(lambda: lines, with_late=call.with_late))
        again = {"retry-after": str(AGAIN_S)}
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), TAKE_S)
        except Rejected as rejected:
            sentence = "the answers come too late; nothing was written" if rejected.is_late else "nothing was written"
            raise Refusal(409 if rejected.is_late else 400, sentence, rejected.problems) from rejected
        except Unavailable as trouble:
            raise Refusal(503, str(trouble), headers=again) from trouble
        except TimeoutError as late:
            sentence = f"the log did not answer within {TAKE_S:g} s; send the same again, what was written is skipped"
            raise Refusal(503, sentence, headers=again) from late
        except (BrokenEvidence, InvalidRecord) as trouble:
            raise Refusal(500, str(trouble)) from trouble


def _call_of(body: bytes) -> _Call:
    try:
        tree = strict_object(body, "the body")
    except Usage as error:
        raise Refusal(400, str(error)) from error
    unknown = [key for key in tree if key not in _KEYS]
    if unknown:
        raise Refusal(400, f"the body has the unknown key {shown(unknown[0])}; known are {', '.join(_KEYS)}")
    run, answers, late = tree.get("run"), tree.get("answers"), tree.get("late", False)
    if not isinstance(run, str):
        raise Refusal(400, f"run: read {shown(run)}, must be the name of a run")
    if not isinstance(answers, list) or not answers:
        raise Refusal(400, f"answers: read {shown(answers)}, must be a list of at least one answer")
    if not isinstance(late, bool):
        raise Refusal(400, f"late: read {shown(late)}, must be true or false")
    return _Call(run, answers, late)
