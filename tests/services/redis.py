"""Run a real redis-server."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Self

from shadow.adapters.embedded import LOOPBACK, ServerProcess, free_port
from tests.services import ServiceMissing


class RedisServer:
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
        self._is_durable = is_durable
        self._arguments = arguments
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: ServerProcess | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def version(self) -> str:
        return redis_version(redis_program())

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    @property
    def directory(self) -> Path:
        """Holds redis.log and the data.

        Raises:
            RuntimeError: If it was not started, or was stopped.
        """
        if self._temporary is None:
            raise RuntimeError("redis-server has no directory before its start and after its stop")
        return Path(self._temporary.name)

    def start(self) -> Self:
        program = redis_program()
        self._temporary = tempfile.TemporaryDirectory(prefix="shadow-redis-")
        self.port = free_port()
        try:
            self._launch(program)
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Start again on the same directory and port; stops it first where it runs."""
        if self._process is not None:
            self._process.stop()
        self._launch(redis_program())

    def stop(self) -> None:
        """End it and remove its data."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, program: str) -> None:
        keeps = "yes" if self._is_durable else "no"
        place = ["--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self.directory), "--daemonize", "no"]
        rules = ["--save", "", "--appendonly", keeps, "--maxmemory-policy", "noeviction"]
        self._process = ServerProcess(
            [program, *place, *rules, *self._arguments], log_path=self.directory / "redis.log", cwd=self.directory
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
