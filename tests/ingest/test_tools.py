"""Copies made by real tools, live and as recorded bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from shadow.adapters.embedded import free_port
from shadow.records.requests import MirroredRequest
from tests.conftest import used
from tests.ingest.kit import EXAMPLES, RECORDED, example, taking
from tests.ingest.record import PLAIN_NGINX, REQUESTS
from tests.proxy.kit import Upstream, connect, echo, post, wait_for
from tests.services import ServiceMissing, unavailable
from tests.services.envoy import Envoy
from tests.services.nginx import Nginx

Tool = Callable[[str, int], Nginx | Envoy]

TOOLS: dict[str, tuple[Tool, str]] = {
    "nginx": (Nginx, (EXAMPLES / "nginx.conf").read_text()),
    "plain-nginx": (Nginx, PLAIN_NGINX),
    "envoy": (Envoy, (EXAMPLES / "envoy.yaml").read_text()),
}


@contextmanager
def mirroring(name: str, production: int, ingest: int, config: pytest.Config) -> Iterator[int]:
    """A tool in front of production that copies to ingest; the port on which it serves."""
    start, text = TOOLS[name]
    port = free_port()
    tool = start(example(text, {"8080": port, "8000": production, "8081": ingest}), port)
    try:
        tool.start()
    except ServiceMissing as missing:
        unavailable(type(tool).__name__, str(missing), os.environ)
    used(config)[type(tool).__name__] = tool.version
    try:
        yield port
    finally:
        tool.stop()


def summary(copy: MirroredRequest) -> tuple[str, str, bytes, str, bool]:
    """What a copy says; the key is `own` where it is our id."""
    key = "own" if copy.key == copy.request_id else copy.key
    return copy.method, copy.path, copy.body, key, copy.live is None


EXPECTED = [
    ("POST", "/v1/double?trace=a%20b", b'{"n": 1}', "session-1", True),
    ("GET", "/v1/models", b"", "session-2", True),
    ("POST", "/v1/double", b"{}\n", "own", True),
]
"""Of the four requests the last one is a worker's."""


@pytest.mark.parametrize("name", TOOLS)
def test_recorded_bytes_of_a_tool_are_taken(name):
    """
    What the tool sent on each connection, sent again as it was, gives the records of the live requests.
    """
    recordings = [path.read_bytes() for path in sorted(RECORDED.glob(f"{name}-[0-9].bin"))]
    assert recordings
    with taking() as ingest:
        for number, recorded in enumerate(recordings):
            with connect(ingest.port) as tool:
                tool.send(recorded)
                wait_for(lambda number=number: ingest.totals()[1] >= (number + 1 if len(recordings) > 1 else 4))
        sequence, dropped = ingest.settled(len(REQUESTS))
        copies = ingest.writer.copies()
    assert (3, {"excluded": 1}) == (sequence, dropped)
    assert EXPECTED == [summary(copy) for copy in copies]
    assert "asked-by-client" == copies[1].client_request_id
    assert "application/json" == copies[0].headers["content-type"]


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_copies_what_production_is_asked(name, pytestconfig):
    """
    Production answers the users; each copy is recorded once, with the id under which production knows the request.
    """
    with Upstream(echo) as production, taking() as ingest:
        with mirroring(name, production.port, ingest.port, pytestconfig) as port, connect(port) as user:
            for request in REQUESTS:
                user.send(request)
                assert user.message()[0].startswith("HTTP/1.1 200")
            sequence, dropped = ingest.settled(len(REQUESTS))
        assert (3, {"excluded": 1}) == (sequence, dropped)
        copies = ingest.writer.copies()
        assert sorted(EXPECTED) == sorted(map(summary, copies))
        known = production.received.lower()
        ids = [copy.client_request_id for copy in copies if copy.client_request_id is not None]
        assert all(f"x-request-id: {each}\r\n".encode() in known for each in ids)
        assert len(ids) == (1 if name == "plain-nginx" else 3)


@pytest.mark.parametrize("name", ["nginx", "envoy"])
def test_every_copy_of_a_burst_is_accounted_for(name, pytestconfig):
    """
    Of 400 requests over 8 connections every one is recorded once, or counted; no user notices.
    """
    with Upstream(echo) as production, taking(sample=0.5) as ingest:
        with mirroring(name, production.port, ingest.port, pytestconfig) as port:
            users = [connect(port) for _ in range(8)]
            for number in range(50):
                for index, user in enumerate(users):
                    user.send(post(b'{"n": 1}', "/v1/double", f"x-session-id: {index}-{number}"))
                for user in users:
                    assert b'{"n": 1}' == user.message()[2]
            for user in users:
                user.close()
            sequence, dropped = ingest.settled(400)
        keys = [copy.key for copy in ingest.writer.copies()]
    assert sequence == len(keys) == len(set(keys))
    assert {"sampled_out": 400 - sequence} == dropped


def test_envoy_copies_a_body_beyond_its_buffer(pytestconfig):
    """
    A body of 2 MiB, twice what Envoy buffers, is copied whole.
    """
    body = b"x" * (2 << 20)
    with (
        Upstream(echo) as production,
        taking(body_max="4MiB") as ingest,
        mirroring("envoy", production.port, ingest.port, pytestconfig) as port,
        connect(port) as user,
    ):
        user.send(post(body, "/v1/double"))
        assert body == user.message()[2]
        assert body == ingest.copy().body


@pytest.mark.parametrize("name", ["nginx", "envoy"])
def test_users_are_served_while_ingest_is_away(name, pytestconfig):
    """
    Where nobody listens for copies, production's answers still come.
    """
    with (
        Upstream(echo) as production,
        mirroring(name, production.port, free_port(), pytestconfig) as port,
        connect(port) as user,
    ):
        for _ in range(20):
            user.send(post(b"{}", "/v1/double"))
            line, _, body = user.message()
            assert (True, b"{}") == (line.startswith("HTTP/1.1 200"), body)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_name_the_port_that_ingest_listens_on(path: Path):
    """
    Every example is YAML, and sends copies to the default port of `ingest.listen`.
    """
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(path.read_text()))
    assert "8081" in path.read_text()
