"""What the real servers of the tests have in common: a directory of their own, one process, start and stop."""

from __future__ import annotations

import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from shadow.adapters.embedded import LOOPBACK, ServerProcess


class Server(ABC):
    """One server in a temporary directory, which a stop removes; a context manager.

    Args:
        name: What it is called, in the directory's name and in errors.
        stop_s: For how long it may go on after SIGTERM before it is killed.
    """

    def __init__(self, name: str, *, stop_s: float = 5.0) -> None:
        self._name = name
        self._stop_s = stop_s
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int | None:
        """Process id of its main process, while it runs."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    @property
    def directory(self) -> Path:
        """Holds its settings, its log and its data.

        Raises:
            RuntimeError: If it was not started, or was stopped.
        """
        if self._temporary is None:
            raise RuntimeError(f"{self._name} has no directory before its start and after its stop")
        return Path(self._temporary.name)

    def start(self) -> Self:
        """Start it in a new directory and wait until it serves; what did not start is stopped again.

        Raises:
            ServiceMissing: If it is not installed.
            Unavailable: If it does not serve.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix=f"shadow-{self._name}-")
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """End it and remove its directory. Harmless where it does not run."""
        if self._process is not None:
            self._process.stop(timeout_s=self._stop_s)
            self._process = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _launch(self) -> None:
        """Set `_process` to a process in `directory`, and wait until it serves."""


def listens(port: int) -> bool:
    """Whether somebody takes connections at a loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1.0).close()
    except OSError:
        return False
    return True
