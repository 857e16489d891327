"""The admin port answers probes and scrapes, whatever the process does."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

import pytest
from aiohttp import web

from shadow.adapters.admin import BODY_BYTES_MAX, AdminServer
from shadow.errors import Usage
from shadow.metrics import Metrics


def get(server: AdminServer, path: str, body: bytes | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", body, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_probes_and_metrics_are_served() -> None:
    """
    A free port is taken; /livez is 200, /readyz follows the process, /metrics is in Prometheus' format.
    """
    state = (False, "kafka: waiting\nfor it")
    metrics = Metrics("worker", {"role": ["candidate"]})
    server = AdminServer("127.0.0.1", 0, metrics, lambda: state)
    try:
        assert server.port > 0
        assert get(server, "/livez") == (200, "ok\n")
        assert get(server, "/readyz") == (503, "kafka: waiting for it\n")
        state = (True, "ok")
        assert get(server, "/readyz") == (200, "ok\n")
        code, text = get(server, "/metrics")
        assert code == 200
        assert 'shadow_worker_requests_total{result="answered",role="candidate"} 0.0' in text
        assert get(server, "/nothing")[0] == 404
    finally:
        server.stop()


def test_more_routes_are_served_beside_them() -> None:
    """
    A process adds its own routes.
    """

    async def runs(_: web.Request) -> web.Response:
        return web.json_response(["one"])

    server = AdminServer("127.0.0.1", 0, Metrics("gate"), lambda: (True, "ok"), [web.get("/v1/runs", runs)])
    try:
        assert get(server, "/v1/runs") == (200, '["one"]')
    finally:
        server.stop()


def test_a_route_may_take_a_body() -> None:
    """
    POST is served where a process says so, with a body of up to 1 MiB; a larger one, and other methods, are refused.
    """

    async def length(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())), status=202)

    server = AdminServer("127.0.0.1", 0, Metrics("gate"), lambda: (True, "ok"), [web.post("/v1/length", length)])
    try:
        for size, status in ((0, 202), (BODY_BYTES_MAX, 202), (BODY_BYTES_MAX + 2, 413)):
            assert status == get(server, "/v1/length", bytes(size))[0]
        assert 405 == get(server, "/v1/length")[0]
        assert 405 == get(server, "/metrics", b"x")[0]
    finally:
        server.stop()


def test_a_busy_port_is_refused_in_one_sentence() -> None:
    """
    Two processes on one admin port: the second says so, and leaves no thread behind.
    """
    server = AdminServer("127.0.0.1", 0, Metrics("gate"), lambda: (True, "ok"))
    try:
        with pytest.raises(Usage, match=f"admin port 127.0.0.1:{server.port} is already in use; choose another"):
            AdminServer("127.0.0.1", server.port, Metrics("gate"), lambda: (True, "ok"))
    finally:
        server.stop()
        server.stop()

    assert "admin" not in [thread.name for thread in threading.enumerate()]


def test_an_address_that_is_not_ours_is_refused() -> None:
    """
    A host that this machine does not have is a sentence, not a traceback.
    """
    with pytest.raises(Usage, match=r"admin port 203\.0\.113\.7:1234 cannot be opened"):
        AdminServer("203.0.113.7", 1234, Metrics("gate"), lambda: (True, "ok"))
