"""Several proxy processes on one port, and one admin port for all of them.

    port --SO_REUSEPORT--> process 1, 2, …, each with an admin port of its own on the loopback
                              ^
    admin port ---------------+  metrics summed, the kill switch passed on

A process that ends by itself is started again; what it had counted stays in the sums.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import tempfile
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shadow.adapters.admin import AdminServer
from shadow.adapters.summed import Page, read, summed, written
from shadow.api.guard import Guard
from shadow.api.switch import SwitchApi
from shadow.cli.supervise import Supervisor, shadow_command
from shadow.errors import Usage
from shadow.settings.settings import Settings

log = logging.getLogger("shadow.proxy")

MEMBER: Final = "SHADOW_PROXY_MEMBER"
"""Tells a process of a group what it is: JSON of a `Member`."""
ASK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a group.

    Args:
        number: From 1 on.
        port: That all of them listen on.
        told: File in which it says its admin port.
        is_on: How the kill switch stands as it starts.
    """

    number: int
    port: int
    told: str
    is_on: bool

    def tell(self, admin_port: int) -> None:
        """Say where this process's admin port is; the file appears whole."""
        fresh = Path(f"{self.told}.new")
        fresh.write_text(str(admin_port))
        fresh.replace(self.told)


def member_from(environment: dict[str, str]) -> Member | None:
    """What this process is in a group; None where it is alone."""
    text = environment.get(MEMBER)
    return None if text is None else Member(**json.loads(text))


class ProxyGroup:
    """See the module.

    Args:
        command: `proxy` or `ingest`.
        address: Host and port to listen on; port 0 takes a free one.
        arguments: Passed on to every process.
    """

    def __init__(self, settings: Settings, command: str, address: tuple[str, int], arguments: list[str]) -> None:
        self._count = settings.proxy.processes
        self._command = shadow_command(command, "--admin-port", "0", *arguments)
        self._name = command
        self._is_on = True
        self._is_stopping = False
        self._was_complete = False
        self._lock = threading.Lock()
        self._last: dict[str, tuple[int, Page]] = {}
        self._ended: list[Page] = []
        # Bound and never listening: it keeps the port ours while processes come and go.
        self._reserved = _reserved(*address)
        self._directory = tempfile.TemporaryDirectory(prefix="shadow-proxy-")
        stop_s = settings.proxy.timeouts.drain_delay + settings.proxy.timeouts.drain + 5.0
        self._supervisor = Supervisor(stop_s=stop_s)

    @property
    def port(self) -> int:
        """The port that all processes listen on."""
        port: int = self._reserved.getsockname()[1]
        return port

    # What the admin port asks; called on its thread.

    def text(self) -> bytes:
        """The metrics of all processes, summed."""
        with self._lock:
            for child in self._supervisor.children:
                page = self._page_of(child.name)
                if page is not None:
                    self._keep(child.name, child.process.pid, page)
            return written(summed([*self._ended, *(page for _, page in self._last.values())]))

    def _keep(self, name: str, pid: int, page: Page) -> None:
        known = self._last.get(name)
        if known is not None and known[0] != pid:
            self._ended = [summed([*self._ended, known[1].counters()])]
        self._last[name] = (pid, page)

    def _page_of(self, name: str) -> Page | None:
        text = self._asked(name, "/metrics")
        try:
            return None if text is None else read(text)
        except ValueError:
            return None

    def readiness(self) -> tuple[bool, str]:
        """Ready once all processes were, and while one is."""
        if self._is_stopping:
            return False, "draining"
        ready = sum(self._asked(child.name, "/readyz") is not None for child in self._supervisor.children)
        self._was_complete = self._was_complete or ready == self._count
        is_ready = ready > 0 and self._was_complete
        return is_ready, "ok" if is_ready else f"{ready} of {self._count} processes are ready"

    def switch(self, is_on: bool) -> None:
        """Pass the kill switch on, to processes that start later too."""
        self._is_on = is_on
        for child in self._supervisor.children:
            if self._asked(child.name, "/v1/on" if is_on else "/v1/off", method="POST") is None:
                log.warning("%s did not answer the switch; it is started again", child.name)
                child.process.kill()

    def _asked(self, name: str, path: str, method: str = "GET") -> str | None:
        """What a process answers; None where it does not, or says no."""
        try:
            port = int(self._told(name).read_text())
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
            with urllib.request.urlopen(request, timeout=ASK_S) as answer:
                return str(answer.read().decode())
        except (OSError, ValueError):
            return None

    def _told(self, name: str) -> Path:
        return Path(self._directory.name) / name

    # The processes.

    def start(self) -> None:
        """Start all of them."""
        for number in range(1, self._count + 1):
            self._start(number)

    def _start(self, number: int) -> None:
        name = f"{self._name}-{number}"
        told = self._told(name)
        told.unlink(missing_ok=True)
        member = Member(number, self.port, str(told), self._is_on)
        fields = {"number": member.number, "port": member.port, "told": member.told, "is_on": member.is_on}
        self._supervisor.start(name, self._command, {MEMBER: json.dumps(fields)})

    def revive(self) -> None:
        """Start again what has ended by itself.

        Raises:
            Usage: If a process says that its configuration cannot be used.
        """
        for child in self._supervisor.ended():
            code = child.process.returncode
            if code == 2:
                raise Usage(f"{child.name} cannot run as it is configured; it says why above")
            log.warning("%s ended with exit code %d; starting it again", child.name, code)
            self._start(int(child.name.rpartition("-")[2]))

    def stop(self) -> None:
        """Drain all of them; a second call does nothing."""
        self._is_stopping = True
        self._supervisor.stop()
        self._reserved.close()
        self._directory.cleanup()


def serve_group(settings: Settings, group: ProxyGroup, admin_port: int) -> int:
    """Run the group until SIGTERM or SIGINT, then drain it; a second signal ends everything at once."""
    stop = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)  # The processes see that we are gone, and drain by themselves.
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    guard = Guard(settings.admin.host, settings.admin.bearer(), "proxies are switched")
    admin = AdminServer(
        settings.admin.host, admin_port, group, group.readiness, SwitchApi(guard, group.switch).routes()
    )
    try:
        group.start()
        log.info("%d processes on port %d; metrics on port %d", settings.proxy.processes, group.port, admin.port)
        while not stop.wait(1.0):
            group.revive()
    finally:
        group.stop()
        admin.stop()
    return 0


def _reserved(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise Usage(f"{host}:{port} cannot be listened on: {error.strerror}") from error
    return held
