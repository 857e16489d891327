"""Run a real redis-server."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from contextlib import suppress
from functools import cache

from shadow.adapters.embedded import LOOPBACK, ServerProcess, free_port
from tests.services import ServiceMissing
from tests.services.server import Server


class RedisServer(Server):
    """One redis-server in a directory of its own, on a free loopback port; a context manager.

    Args:
        is_durable: Write an append-only file, so that what was acknowledged survives `kill` and `restart`;
            without it, a killed server comes back empty.
        arguments: More command line arguments, in redis-server's own words; the last one of a name wins.

    Raises:
        ServiceMissing: If redis-server is not installed (at start).
        Unavailable: If it does not serve (at start).
    """

    def __init__(self, *, is_durable: bool = False, arguments: tuple[str, ...] = ()) -> None:
        super().__init__("redis")
        self._is_durable = is_durable
        self._arguments = arguments
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def version(self) -> str:
        return redis_version(redis_program())

    def restart(self) -> None:
        """Start again on the same directory and port; stops it first where it runs."""
        if self._process is not None:
            self._process.stop()
        self._run()

    def _launch(self) -> None:
        self.port = free_port()
        self._run()

    def _run(self) -> None:
        keeps = "yes" if self._is_durable else "no"
        place = ["--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self.directory), "--daemonize", "no"]
        rules = ["--save", "", "--appendonly", keeps, "--maxmemory-policy", "noeviction"]
        self._process = ServerProcess(
            [redis_program(), *place, *rules, *self._arguments],
            log_path=self.directory / "redis.log",
            cwd=self.directory,
        )
        self._process.wait_until(self._serves, timeout_s=20.0)

    def _serves(self) -> bool:
        """Whether it answers, and has read its files."""
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=1.0) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False


def redis_program() -> str:
    """Path of redis-server.

    Raises:
        ServiceMissing: If it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise ServiceMissing("redis-server is not installed (Debian: apt-get install redis-server)")
    return program


@cache
def redis_version(program: str) -> str:
    """Version of a redis-server program, as in `7.0.15`."""
    done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    found = re.search(rb"v=([0-9.]+)", done.stdout)
    return found.group(1).decode() if found else "unknown"
