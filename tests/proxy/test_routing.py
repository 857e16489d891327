"""Canary routing: which sessions go to the candidate, for how long, and what happens when it cannot be reached."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shadow.errors import Unavailable
from shadow.proxy.config import Health, Timeouts
from shadow.proxy.routing import Route, Routing, RoutingFollower, route_in
from shadow.proxy.sampling import u_of
from shadow.records.decisions import PROMOTE, ROLLBACK, Command, Decision, DecisionsRecord, Obeyed, Started, decision_id
from shadow.records.decisions import Routing as RoutingRecord
from shadow.records.votes import cell_of, served_from_token
from tests.proxy.kit import Connection, Upstream, connect, echo, get, ok, post, running, wait_for
from tests.proxy.test_pool import closed_port

SALT = "cand-1a2b3c4d-1"
STARTED = Started("cand-1a2b3c4d-1", 1, "v2", "v1", "0" * 64, "shadow", 1, 1, (0,), (0,), 0, 1)


def decision(share: float | None, *, run: str = STARTED.run, step: int = 1, upstream: str = "http://c:1") -> Decision:
    routing = None if share is None else RoutingRecord(share, SALT, upstream)
    kind = PROMOTE if share else ROLLBACK
    return Decision(f"id-{step}", run, step, kind, "shadow", "canary", 1, "", (0,), (), "because", "{}", 0, routing)


def routed(share: float, port: int) -> Routing:
    """A routing in force, confirmed for good."""
    routing = Routing(confirmed_s=3600.0)
    routing.confirm(Route(STARTED.run, "id-1", "v2", share, SALT, f"http://127.0.0.1:{port}"), time.monotonic())
    return routing


def session(number: int) -> str:
    return f"session-{number}"


def takes(number: int, share: float) -> bool:
    return u_of(f"{SALT}/{session(number)}") < share


# What the records say.


def test_the_newest_decision_of_the_run_is_in_force():
    """Steps raise the share, a rollback takes it away, and so does a decision without routing."""
    records: list[DecisionsRecord] = [STARTED]
    assert route_in(records, "v1") is None
    for step, share in enumerate((0.01, 0.05, 0.25), 1):
        records.append(decision(share, step=step))
        found = route_in(records, "v1")
        assert found is not None
        assert ("v2", share, f"id-{step}") == (found.version, found.share, found.decision_id)
    assert route_in([*records, decision(None, step=4)], "v1") is None
    assert route_in([*records, decision(0.0, step=4)], "v1") is None


def test_one_run_at_a_time_has_live_traffic():
    """A second run gets none while the first has some, and its end changes nothing of that."""
    other = replace(STARTED, run="other-1a2b3c4d-1", candidate="v3")
    records = [STARTED, other, decision(0.05), decision(0.5, run=other.run)]
    found = route_in(records, "v1")
    assert found is not None
    assert ("v2", 0.05) == (found.version, found.share)
    found = route_in([*records, decision(None, run=other.run, step=2)], "v1")
    assert found is not None
    assert "v2" == found.version
    found = route_in([*records, decision(None, step=2), decision(0.1, run=other.run, step=2)], "v1")
    assert found is not None
    assert ("v3", 0.1) == (found.version, found.share)


def test_a_persons_rollback_ends_the_route_without_a_gate():
    """The command alone ends the run's live traffic, for good; another order and another run's rollback do not."""
    other = replace(STARTED, run="other-1a2b3c4d-1", candidate="v3")
    records = [STARTED, other, decision(0.05)]

    def order(word: str, run: str = STARTED.run) -> Command:
        return Command(word, run, word, "ada", "users complain", 0)

    assert route_in([*records, order("hold"), Obeyed("hold", STARTED.run, 1, 0)], "v1") is not None
    assert route_in([*records, order("rollback", other.run)], "v1") is not None
    ended = [*records, order("rollback")]
    assert route_in(ended, "v1") is None
    assert route_in([*ended, decision(0.25, step=2)], "v1") is None
    found = route_in([*ended, decision(0.1, run=other.run)], "v1")
    assert found is not None
    assert "v3" == found.version


def test_runs_against_another_production_and_unknown_ones_are_passed_over():
    """They are other proxies' business."""
    assert route_in([STARTED, decision(0.5)], "v0") is None
    assert route_in([decision(0.5)], "v1") is None


def test_sessions_stay_as_the_share_grows():
    """Whoever the candidate serves at 5 % it serves at 25 %; the share is what is said, within its error."""
    routes = [Route("r", "d", "v2", share, SALT, "http://c:1") for share in (0.0, 0.05, 0.25, 1.0)]
    served = [{number for number in range(20_000) if route.takes(session(number))} for route in routes]
    assert set() == served[0] < served[1] < served[2] < served[3]
    assert 20_000 == len(served[3])
    for share, numbers in ((0.05, served[1]), (0.25, served[2])):
        # Five standard deviations of a binomial count; the keys are fixed, so this never fails by chance.
        assert abs(len(numbers) - 20_000 * share) < 5 * (20_000 * share * (1 - share)) ** 0.5


def test_a_share_holds_only_while_the_end_was_confirmed():
    """A confirmation counts from when the end was asked for; without a fresh one the share is 0."""
    routing, route = Routing(confirmed_s=5.0), Route("r", "d", "v2", 0.5, SALT, "http://c:1")
    assert routing.route() is None
    routing.confirm(route, time.monotonic() - 4.0)
    assert route == routing.route()
    routing.confirm(route, time.monotonic() - 5.1)
    assert routing.route() is None
    routing.confirm(route, time.monotonic())
    assert route == routing.route()


def test_the_follower_takes_over_what_it_reads_and_survives_what_it_cannot():
    """Records, then trouble, then a rollback: the share comes, holds no longer than it may, and goes."""
    records: list[DecisionsRecord] = [STARTED]
    is_away = threading.Event()

    def read() -> Sequence[DecisionsRecord]:
        if is_away.is_set():
            raise Unavailable("kafka does not answer")
        return list(records)

    routing = Routing(confirmed_s=1.0)
    follower = RoutingFollower(routing, read, "v1")
    follower.start()
    try:
        records.append(decision(0.5))
        wait_for(routing.route, "the share")
        is_away.set()
        wait_for(lambda: routing.route() is None, "the share's end")
        is_away.clear()
        wait_for(routing.route, "the share, again")
        records.append(decision(None, step=2))
        wait_for(lambda: routing.route() is None, "the rollback")
    finally:
        follower.stop()


# What the proxy does.


def named(name: bytes):
    def serve(connection: Connection) -> None:
        while True:
            connection.message()
            connection.send(ok(name))

    return serve


def test_sessions_go_where_the_decision_says_and_the_record_says_so():
    """By key, the same for every request of a session; version, role and decision stand in the copies."""
    with (
        Upstream(named(b"production")) as production,
        Upstream(named(b"candidate")) as candidate,
        running(production.port, routing=routed(0.5, candidate.port)) as proxy,
        connect(proxy.port) as client,
    ):
        for _ in range(2):
            for number in range(20):
                client.send(post(b"{}", "/v1/chat", f"x-session-id: {session(number)}"))
                expected = b"candidate" if takes(number, 0.5) else b"production"
                assert expected == client.message()[2]
        copies = proxy.copies(40)
        assert 0.5 == proxy.snapshot().share
    served = {(copy.key, copy.live.role, copy.live.version, copy.live.decision_id) for copy in copies}
    assert {
        (session(n), *(("candidate", "v2") if takes(n, 0.5) else ("production", "v1")), "id-1") for n in range(20)
    } == served


def test_the_response_says_how_it_was_routed():
    """Its token names the decision, whose session it is, a fall-back's too, and the key's cell; else place and id."""
    decided = decision_id(STARTED.run, 1)
    routing = Routing(confirmed_s=3600.0)
    tokens = {}
    with (
        Upstream(named(b"production")) as production,
        running(production.port, routing=routing) as proxy,
        connect(proxy.port) as client,
    ):
        for share in (0.0, 0.5):
            if share:
                route = Route(STARTED.run, decided, "v2", share, SALT, f"http://127.0.0.1:{closed_port()}")
                routing.confirm(route, time.monotonic())
            for number in range(10):
                client.send(post(b"{}", "/v1/chat", f"x-session-id: {session(number)}"))
                tokens[share, number] = served_from_token(client.message()[1]["x-shadow-request"])
        copies = {copy.request_id for copy in proxy.copies(20)}
    assert copies == {token.request_id for token in tokens.values() if token is not None}
    for (share, number), token in tokens.items():
        told = (decided, takes(number, 0.5), cell_of(session(number))) if share else (None, False, 0)
        assert told == (token.decision_id, token.is_routed, token.cell)


def test_what_may_not_be_copied_never_goes_to_the_candidate():
    """Its methods and paths were never tried there."""
    with Upstream(named(b"production")) as production, Upstream(named(b"candidate")) as candidate:
        mirror = {"methods": ("POST",), "paths": ("/v1/*",)}
        routing = routed(1.0, candidate.port)
        with running(production.port, routing=routing, mirror=mirror) as proxy, connect(proxy.port) as client:
            for request, served in (
                (post(b"{}", "/v1/chat"), b"candidate"),
                (post(b"{}", "/admin"), b"production"),
                (get("/v1/chat"), b"production"),
            ):
                client.send(request)
                assert served == client.message()[2]


def test_the_kill_switch_takes_the_share_to_zero():
    """At once, and the copies with it; on again, both are back."""
    with (
        Upstream(named(b"production")) as production,
        Upstream(named(b"candidate")) as candidate,
        running(production.port, routing=routed(1.0, candidate.port)) as proxy,
        connect(proxy.port) as client,
    ):
        for is_on, served in ((True, b"candidate"), (False, b"production"), (True, b"candidate")):
            proxy.proxy.switch(is_on)
            client.send(post(b"{}"))
            assert served == client.message()[2]
        assert (2, {"off": 1}) == proxy.settled(3)
        assert [None if copy.live is None else copy.live.role for copy in proxy.copies(2)] == ["candidate"] * 2


def test_a_candidate_that_cannot_be_reached_falls_back_and_counts_against_it():
    """The user gets production's answer; the copy says that the candidate failed, also once it is passed over."""
    with Upstream(echo) as production:
        routing, health = routed(1.0, closed_port()), Health(failures_max=2, out_s=3600.0)
        with running(production.port, routing=routing, health=health) as proxy, connect(proxy.port) as client:
            for number in range(4):
                client.send(post(b"%d" % number))
                assert b"%d" % number == client.message()[2]
            lives = [copy.live for copy in proxy.copies(4)]
            counters = proxy.snapshot().counters
            assert (4, {}) == (counters.fallbacks, counters.failures)
    assert [("production", "v1", "id-1", "answered")] * 4 == [
        (live.role, live.version, live.decision_id, live.outcome) for live in lives if live is not None
    ]
    refused, passed_over = "The upstream does not accept connections.", "passed over after several failures in a row"
    assert [refused] * 2 + [passed_over] * 2 == [live.failed_attempt for live in lives if live is not None]


def test_a_large_body_falls_back_whole():
    """What had come of it waits for production; the rest follows."""
    body = bytes(range(256)) * 4096
    with (
        Upstream(echo) as production,
        running(production.port, routing=routed(1.0, closed_port())) as proxy,
        connect(proxy.port) as client,
    ):
        client.send(post(body))
        assert body == client.message()[2]


def test_a_candidate_that_does_not_accept_in_time_falls_back():
    """A full backlog: the user waits no longer than the candidate's own bound."""
    with socket.socket() as full, Upstream(echo) as production:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        timeouts = Timeouts(linger_s=0.2, candidate_connect_s=0.1, connect_s=60.0)
        with (
            running(production.port, routing=routed(1.0, port), timeouts=timeouts) as proxy,
            connect(proxy.port) as client,
        ):
            client.send(post(b"patient"))
            assert b"patient" == client.message()[2]
        for each in waiting:
            each.close()


@pytest.mark.parametrize(
    ("request_", "line", "attempt"),
    [
        (get(), "HTTP/1.1 200 OK", "the connection ended without an answer"),
        (post(b"{}"), "HTTP/1.1 502 Bad Gateway", None),
    ],
    ids=["GET", "POST"],
)
def test_a_candidate_that_dies_over_a_request(request_, line, attempt):
    """What may be sent again is served by production; a POST was perhaps carried out: the candidate's failure."""

    def die(connection: Connection) -> None:
        connection.message()

    with (
        Upstream(echo) as production,
        Upstream(die) as candidate,
        running(production.port, routing=routed(1.0, candidate.port)) as proxy,
        connect(proxy.port) as client,
    ):
        client.send(request_)
        assert line == client.message()[0]
        (copy,) = proxy.copies(1)
    assert copy.live is not None
    role = "candidate" if attempt is None else "production"
    outcome = "error" if attempt is None else "answered"
    assert (role, outcome, attempt) == (copy.live.role, copy.live.outcome, copy.live.failed_attempt)


def test_an_upstream_that_is_no_address_leaves_production():
    """A decision that names nonsense changes nothing."""
    routing = Routing(confirmed_s=3600.0)
    with Upstream(echo) as production, running(production.port, routing=routing) as proxy:
        with connect(proxy.port) as client:
            for upstream in ("ftp://c:1", "http://", "http://c:99999", "c", "http://c/path", "http://[::1"):
                routing.confirm(Route("r", "d", "v2", 1.0, SALT, upstream), time.monotonic())
                client.send(post(b"{}"))
                assert b"{}" == client.message()[2]
        assert 0.0 == proxy.snapshot().share
