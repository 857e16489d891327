"""`POST /v1/alerts` on the gate's admin port: Alertmanager's webhook, so that an alert can hold or roll back a run.

A firing alert that carries the configured label (`shadow_action: hold` or `rollback`) writes one command by
`alertmanager`, for the run that its label `shadow_run` or `run` names, else for the run that the gate judges.
Alertmanager repeats itself; a command's id is made of run, fingerprint, start and status, so that it stands in the
log once. A resolved alert does nothing: what was held is resumed by a person. Where alerts were cut off
(`truncatedAlerts`), one of them may have said so, and the run is held.

200 {"written", "known", "ignored", "problems"}: known is what stood there already, problems name what an ended run
does not take. 400: not what Alertmanager sends, or a label with another value. 404: an unknown run. Both say so
after the other alerts were obeyed, and are not sent again. 503: Kafka, or the run, is not there; sent again.

Source: Alertmanager 0.27, notify/webhook/webhook.go and template/template.go (contracts.md, section 5).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from shadow.api.body import json_body
from shadow.api.clerk import Clerk
from shadow.api.guard import Guard, Refusal
from shadow.desk.commands import NotAllowed, UnknownRun, give
from shadow.errors import InvalidRecord, Unavailable, Usage
from shadow.gate.commands import REASON_MAX
from shadow.gate.strict_json import shown, strict_object
from shadow.ports import Clock, DecisionWriter
from shadow.records.decisions import HOLD, ROLLBACK, Command

log = logging.getLogger("shadow.alerts")

BY: Final = "alertmanager"
NAMESPACE: Final = uuid.UUID("0c2f4b58-37a1-5c1d-8e86-2f3f2c5d7b90")
"""Namespace of the ids of alerts' commands."""
RUN_LABELS: Final = ("shadow_run", "run")
ACTIONS: Final = (HOLD, ROLLBACK)
FIRING: Final = "firing"
TAKE_S: Final = 30.0
AGAIN: Final = {"retry-after": "5"}


@dataclass(slots=True)
class Notification:
    """What a notification orders.

    Args:
        commands: One for each firing alert that carries the label, and one where alerts were cut off.
        ignored: Alerts that are resolved, or do not carry the label.
        problems: Labels with another value, one sentence each.
    """

    commands: list[Command] = field(default_factory=list)
    ignored: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Receipt:
    """What became of it."""

    written: int = 0
    known: int = 0
    ended: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def notification_of(tree: Mapping[str, Any], *, label: str, run: str, now_us: int) -> Notification:
    """Read a notification.

    Args:
        label: Name of the label that says what to do.
        run: The run that is meant where an alert names none.

    Raises:
        Usage: If it is not what Alertmanager sends.
    """
    alerts = tree.get("alerts")
    if not isinstance(alerts, list):
        raise Usage(f"alerts: read {shown(alerts)}, must be Alertmanager's list of alerts")
    found = Notification()
    for index, alert in enumerate(alerts):
        _read_alert(alert, f"alerts[{index}]", label, run, now_us, found)
    cut = tree.get("truncatedAlerts", 0)
    if not isinstance(cut, int) or isinstance(cut, bool) or cut < 0:
        raise Usage(f"truncatedAlerts: read {shown(cut)}, must be a count")
    if cut and tree.get("status") == FIRING:
        found.commands.append(_of_the_cut(tree, alerts, cut, run, now_us))
    return found


def _read_alert(alert: Any, place: str, label: str, run: str, now_us: int, found: Notification) -> None:
    if not isinstance(alert, dict):
        raise Usage(f"{place}: read {shown(alert)}, must be an alert")
    labels = _texts(alert, "labels", place)
    annotations = _texts(alert, "annotations", place)
    status, started, fingerprint = (_text(alert, name, place) for name in ("status", "startsAt", "fingerprint"))
    action = labels.get(label)
    if action is None or status != FIRING:
        found.ignored += 1
        return
    if action not in ACTIONS:
        found.problems.append(f"{place}: the label {label} is {shown(action)}, must be hold or rollback")
        return
    name = next((labels[each] for each in RUN_LABELS if labels.get(each)), run)
    summary = annotations.get("summary") or annotations.get("description") or annotations.get("message") or ""
    title = labels.get("alertname", "without a name")
    reason = _line(f"alert {title}: {summary}" if summary else f"alert {title}")
    found.commands.append(_command(name, action, reason, now_us, fingerprint, started, status))


def _of_the_cut(tree: Mapping[str, Any], alerts: list[Any], cut: int, run: str, now_us: int) -> Command:
    """A hold for what was cut off: of the group, which began when its first alert did."""
    common = _texts(tree, "commonLabels", "the body")
    name = next((common[each] for each in RUN_LABELS if common.get(each)), run)
    began = min((alert["startsAt"] for alert in alerts), default="")
    group = tree.get("groupKey", "")
    reason = f"{cut} alerts were cut off by max_alerts; one of them may hold or roll back"
    return _command(name, HOLD, reason, now_us, f"truncated/{group}", began, FIRING)


def _command(run: str, action: str, reason: str, now_us: int, *made_of: str) -> Command:
    name = "\n".join((run, action, *made_of))
    return Command(str(uuid.uuid5(NAMESPACE, name)), run, action, BY, reason, now_us)


def _line(text: str) -> str:
    """One printable line, as a reason must be."""
    line = "".join(each if each.isprintable() else " " for each in " ".join(text.split()))
    return line if len(line) <= REASON_MAX else f"{line[: REASON_MAX - 1]}…"


def _text(tree: Mapping[str, Any], name: str, place: str) -> str:
    value = tree.get(name)
    if not isinstance(value, str) or not value:
        raise Usage(f"{place}.{name}: read {shown(value)}, must be a text")
    return value


def _texts(tree: Mapping[str, Any], name: str, place: str) -> dict[str, str]:
    value = tree.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise Usage(f"{place}.{name}: read {shown(value)}, must be texts by name")
    return value


class AlertsApi:
    """The route, and the run that it serves at the moment.

    Args:
        guard: Says who may call.
        label: Name of the label that says what to do (`admin.alert_label`).
        four_eyes: As in the configuration; an alert promotes nothing.
    """

    def __init__(self, guard: Guard, label: str, *, four_eyes: bool) -> None:
        self._guard = guard
        self._label = label
        self._four_eyes = four_eyes
        self._serving: tuple[str, Clerk[DecisionWriter], Clock] | None = None

    def routes(self) -> list[web.RouteDef]:
        """What the admin server serves."""
        return [web.post("/v1/alerts", self._post)]

    @contextmanager
    def serving(self, run: str, open_writer: Callable[[], DecisionWriter], clock: Clock) -> Iterator[None]:
        """Take alerts as long as the context lasts; those that name no run are about this one."""
        clerk = Clerk("alerts", open_writer)
        self._serving = (run, clerk, clock)
        try:
            yield
        finally:
            self._serving = None
            clerk.stop()

    async def _post(self, request: web.Request) -> web.Response:
        try:
            self._guard.check(request)
            return await self._taken(await json_body(request))
        except Refusal as refusal:
            return refusal.response()

    async def _taken(self, body: bytes) -> web.Response:
        serving = self._serving
        if serving is None:
            raise Refusal(503, "this gate has no run to judge at the moment", headers=AGAIN)
        run, clerk, clock = serving
        try:
            tree = strict_object(body, "the body")
            found = notification_of(tree, label=self._label, run=run, now_us=clock.now_us())
        except Usage as error:
            raise Refusal(400, str(error)) from error
        receipt = await self._obeyed(clerk, found.commands) if found.commands else Receipt()
        if found.problems or receipt.unknown:
            problems = [*found.problems, *receipt.unknown, *receipt.ended]
            said = f"{receipt.written} commands were written; {len(problems)} alerts were not obeyed"
            raise Refusal(400 if found.problems else 404, said, problems)
        counts = {"written": receipt.written, "known": receipt.known, "ignored": found.ignored}
        reply = orjson.dumps({**counts, "problems": receipt.ended})
        return web.Response(body=reply, content_type="application/json")

    async def _obeyed(self, clerk: Clerk[DecisionWriter], commands: list[Command]) -> Receipt:
        future = clerk.submit(lambda writer: _give_all(writer, commands, four_eyes=self._four_eyes))
        try:
            receipt: Receipt = await asyncio.wait_for(asyncio.wrap_future(future), TAKE_S)
        except Unavailable as trouble:
            raise Refusal(503, str(trouble), headers=AGAIN) from trouble
        except TimeoutError as late:
            sentence = f"the log did not answer within {TAKE_S:g} s; what was written is known when it is sent again"
            raise Refusal(503, sentence, headers=AGAIN) from late
        except InvalidRecord as trouble:
            raise Refusal(500, str(trouble)) from trouble
        return receipt


def _give_all(writer: DecisionWriter, commands: list[Command], *, four_eyes: bool) -> Receipt:
    receipt = Receipt()
    for command in commands:
        try:
            given = give(writer, command, four_eyes=four_eyes)
        except UnknownRun as unknown:
            receipt.unknown.append(str(unknown))
        except NotAllowed as refused:
            receipt.ended.append(str(refused))
        else:
            receipt.written += given.is_new
            receipt.known += not given.is_new
            if given.is_new:
                log.warning("run %s: %s by an alert: %s", command.run, command.command, command.reason)
    return receipt
