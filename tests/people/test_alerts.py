"""`POST /v1/alerts`: each firing alert acts once, and the replies are those that Alertmanager acts on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from shadow.adapters.admin import AdminServer
from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.adapters.memory_log import MemoryLog
from shadow.api.alerts import AlertsApi
from shadow.api.guard import Guard
from shadow.gate.history import Run, runs_in
from shadow.metrics import Metrics
from shadow.records.decisions import Command, Decision, DecisionsRecord, Started

RUN, OTHER = "candidate-1", "another-1"
STARTED = Started(RUN, 1, "v2", "v1", "0" * 64, "shadow", 60_000_000, 100, (0,), (0,), 0, 7 * 86_400_000_000)
ENDED = Decision("d", RUN, 1, "rollback", "shadow", "rolled_back", 107, "", (0,), (), "worse", "{}", 0)
JSON = {"content-type": "application/json"}


class Clock:
    def now_us(self) -> int:
        return 1_790_000_000_000_000


class World:
    """Two runs in a log in memory, and the gate's port."""

    def __init__(self) -> None:
        self.log = MemoryLog(Clock().now_us)
        self.log.admin().create_topics({"decisions": 1}, {})
        self.add(STARTED)
        self.add(Started(OTHER, *[getattr(STARTED, name) for name in STARTED.__slots__[1:]]))
        self.port = 0

    def add(self, record: DecisionsRecord) -> None:
        self.log.decisions("decisions", "test").append(b"", lambda records: encode(record))

    def run(self, name: str = RUN) -> Run:
        found = runs_in(decisions_in(self.log.decisions("decisions", "test").read()))
        return next(run for run in found if run.name == name)

    def commands(self, name: str = RUN) -> list[tuple[str, str]]:
        return [(each.command, each.reason) for each in self.run(name).commands]

    def post(self, body: Any, headers: Mapping[str, str] = JSON) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/v1/alerts", raw, dict(headers))
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()


@contextmanager
def gate(world: World, *, host: str = "127.0.0.1", token: str | None = None, run: str | None = RUN) -> Iterator[World]:
    """A port that takes alerts; without a run, one that waits for it."""
    api = AlertsApi(Guard(host, token, "alerts are taken"), "shadow_action", four_eyes=True)
    server = AdminServer("127.0.0.1", 0, Metrics("gate"), lambda: (True, "ok"), api.routes())
    world.port = server.port
    try:
        if run is None:
            yield world
        else:
            with api.serving(run, lambda: world.log.decisions("decisions", "test"), Clock()):
                yield world
    finally:
        server.stop()


def alert(
    action: str | None = "hold", fingerprint: str = "f1", status: str = "firing", **labels: str
) -> dict[str, Any]:
    own = {"alertname": "ErrorsRise"} | ({"shadow_action": action} if action else {}) | labels
    return {
        "status": status,
        "labels": own,
        "annotations": {"summary": "5 % of the answers are errors"},
        "startsAt": "2026-11-30T14:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": fingerprint,
    }


def notification(*alerts: Any, **changes: Any) -> dict[str, Any]:
    """A body as Alertmanager sends it."""
    return {
        "receiver": "shadow",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "version": "4",
        "groupKey": '{}:{alertname="ErrorsRise"}',
        "truncatedAlerts": 0,
        **changes,
    }


def test_a_firing_alert_holds_the_run_once_however_often_it_repeats() -> None:
    """
    One command by alertmanager with the alert's words; repeats, by whichever gate, are known; a new start is another.
    """
    world = World()
    with gate(world):
        reply = world.post(notification(alert()))
        assert (200, {"written": 1, "known": 0, "ignored": 0, "problems": []}) == reply
        for _ in range(2):
            assert (200, 0, 1) == (*_counts(world.post(notification(alert()))),)
    with gate(world):
        assert (200, 0, 1) == _counts(world.post(notification(alert())))
        again = {**alert(), "startsAt": "2026-11-30T15:00:00Z"}
        assert (200, 1, 0) == _counts(world.post(notification(again)))
    assert [("hold", "alert ErrorsRise: 5 % of the answers are errors")] * 2 == world.commands()
    assert {"alertmanager"} == {each.by for each in world.run().commands}


def _counts(reply: tuple[int, dict[str, Any]]) -> tuple[int, int, int]:
    return reply[0], reply[1]["written"], reply[1]["known"]


def test_what_a_person_resumed_is_not_held_again_by_a_repeat() -> None:
    """
    A resolved alert does nothing, a person resumes, and the repeated notification changes nothing of that.
    """
    world = World()
    with gate(world):
        world.post(notification(alert()))
        world.add(Command("r", RUN, "resume", "ada", "looked at it", 0))
        resolved = world.post(notification(alert(status="resolved"), status="resolved"))
        assert (200, {"written": 0, "known": 0, "ignored": 1, "problems": []}) == resolved
        world.post(notification(alert()))
    assert () == world.run().holds


def test_labels_name_the_run_and_what_to_do() -> None:
    """
    `shadow_run` goes before `run`, and without both it is the gate's run; alerts without the label are none of ours.
    """
    world = World()
    with gate(world):
        status, reply = world.post(
            notification(
                alert("rollback", "a", run=OTHER),
                alert("hold", "b", shadow_run=OTHER, run="elsewhere"),
                alert("hold", "c"),
                alert(None, "d"),
            )
        )
    assert (200, 3, 1) == (status, reply["written"], reply["ignored"])
    assert ["rollback", "hold"] == [word for word, _ in world.commands(OTHER)]
    assert ["hold"] == [word for word, _ in world.commands(RUN)]


def test_alerts_that_were_cut_off_hold() -> None:
    """
    `truncatedAlerts` above 0 is a hold of its own, once for the group; of a resolved group it is nothing.
    """
    world = World()
    with gate(world):
        for expected in ((200, 1, 0), (200, 0, 1)):
            assert expected == _counts(world.post(notification(alert(None), truncatedAlerts=3)))
        assert (200, 0, 0) == _counts(world.post(notification(alert(None), truncatedAlerts=3, status="resolved")))
    assert [("hold", "3 alerts were cut off by max_alerts; one of them may hold or roll back")] == world.commands()


def test_input_105_a_verdict_for_an_unknown_run_is_404_and_one_for_an_ended_run_changes_nothing() -> None:
    """
    Input 105: an unknown run is named in a 404, after the other alerts were obeyed; an ended run takes nothing, and
    Alertmanager need not know.
    """
    world = World()
    with gate(world):
        status, reply = world.post(notification(alert("hold", "a", run="nosuch"), alert("hold", "b", run=OTHER)))
        assert 404 == status
        assert ["no run is named 'nosuch'; known are candidate-1, another-1"] == reply["problems"]
        assert ["hold"] == [word for word, _ in world.commands(OTHER)]
        world.add(ENDED)
        status, reply = world.post(notification(alert("rollback")))
    assert (200, 0) == (status, reply["written"])
    assert ["the run candidate-1 has ended (rollback at tile 107): it takes no more commands"] == reply["problems"]
    assert [] == world.commands()


def test_a_label_with_another_value_is_named_and_the_others_are_obeyed() -> None:
    """
    An alert promotes nothing: 400 names it; the alert beside it holds.
    """
    world = World()
    with gate(world):
        status, reply = world.post(notification(alert("promote"), alert("hold", "b")))
    assert (400, ["alerts[0]: the label shadow_action is 'promote', must be hold or rollback"]) == (
        status,
        reply["problems"],
    )
    assert ["hold"] == [word for word, _ in world.commands()]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"[]", "an object is expected"),
        (b'{"alerts": NaN}', "contains NaN"),
        ({}, "alerts: read None, must be Alertmanager's list of alerts"),
        (notification(7), "alerts[0]: read 7, must be an alert"),
        (notification({**alert(), "fingerprint": ""}), "alerts[0].fingerprint: read '', must be a text"),
        (notification({**alert(), "startsAt": 5}), "alerts[0].startsAt: read 5, must be a text"),
        (notification({**alert(), "labels": {"a": 1}}), "alerts[0].labels: read"),
        (notification({**alert(), "status": None}), "alerts[0].status: read None"),
        (notification(truncatedAlerts=-1), "truncatedAlerts: read -1, must be a count"),
        (notification(truncatedAlerts="1"), "truncatedAlerts: read '1', must be a count"),
    ],
    ids=range(11),
)
def test_what_alertmanager_does_not_send_is_400_and_changes_nothing(body: Any, sentence: str) -> None:
    """
    One sentence with what was read; nothing is written, and nothing is sent again.
    """
    world = World()
    with gate(world):
        status, reply = world.post(body)
    assert (400, True) == (status, sentence in reply["error"]), reply
    assert [] == world.commands()


def test_only_who_may_call_is_obeyed() -> None:
    """
    With a token: 401 without it; without one: the loopback by its address only.
    """
    world = World()
    with gate(world, token="secret"):
        assert 401 == world.post(notification(alert()))[0]
        assert 401 == world.post(notification(alert()), {**JSON, "authorization": "Bearer wrong"})[0]
        assert [] == world.commands()
        assert 200 == world.post(notification(alert()), {**JSON, "authorization": "Bearer secret"})[0]
    with gate(world, host="0.0.0.0"):
        assert 403 == world.post(notification(alert("rollback")))[0]
    with gate(world):
        assert 403 == world.post(notification(alert("rollback")), {**JSON, "host": "evil.example"})[0]
        assert 415 == world.post(notification(alert("rollback")), {"content-type": "text/plain"})[0]
    assert ["hold"] == [word for word, _ in world.commands()]


def test_what_is_away_is_503_so_that_alertmanager_sends_it_again() -> None:
    """
    Kafka away, or no run to judge: 503; sent again, it is written.
    """
    world = World()
    with gate(world, run=None):
        assert 503 == world.post(notification(alert()))[0]
    with gate(world):
        world.log.stop()
        assert 503 == world.post(notification(alert()))[0]
        world.log.start()
        assert (200, 1, 0) == _counts(world.post(notification(alert())))


def test_long_and_wild_annotations_become_one_line() -> None:
    """
    Whatever an annotation holds, the reason is a printable line that the log takes.
    """
    world = World()
    wild = {**alert(), "annotations": {"description": "a\nb\x07" + "c" * 10_000}}
    with gate(world):
        assert (200, 1, 0) == _counts(world.post(notification(wild)))
    ((_, reason),) = world.commands()
    assert (True, 500, True) == (reason.startswith("alert ErrorsRise: a b ccc"), len(reason), reason.isprintable())
