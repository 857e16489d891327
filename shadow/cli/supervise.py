"""Start the processes of one machine, and stop all of them: in order, in time, leaving no orphan."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from shadow.errors import Unavailable

STOP_S = 8.0
"""How long a process may take to drain before it is killed, unless told otherwise."""


@dataclass(slots=True)
class Child:
    """One running process and the file that takes its output."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path | None

    def last_lines(self, count: int = 5) -> str:
        """The end of its output, to be shown where it failed."""
        if self.log_path is None:
            return ""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])


class Supervisor:
    """Owns child processes. Use as a context manager: whatever happens, they are stopped at its end.

    Children run in sessions of their own, so that the terminal's Ctrl-C reaches only the supervisor, which
    then stops them in the reverse order of their start.

    Args:
        log_dir: Where the children's output goes, one file each; None: to this process's stderr.
        stop_s: How long a child may take to drain before it is killed.
    """

    def __init__(self, log_dir: Path | None = None, stop_s: float = STOP_S) -> None:
        self._log_dir = log_dir
        self._stop_s = stop_s
        self._children: list[Child] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes that were started and not stopped, in the order of their start."""
        return tuple(self._children)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start a process; it is told our process id, so that it ends when we die (see `orphan`)."""
        log_path = self._log_dir / f"{name}.log" if self._log_dir is not None else None
        output: IO[bytes] | None = log_path.open("ab") if log_path is not None else None
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output if output is not None else sys.stderr,
                stderr=output if output is not None else sys.stderr,
                env={**os.environ, **(environment or {}), "SHADOW_PARENT_PID": str(os.getpid())},
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()
        child = Child(name, process, log_path)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise Unavailable, with its last lines, if a process has ended by itself."""
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise Unavailable(f"{child.name} ended with exit code {code}\n{child.last_lines()}".rstrip())

    def ended(self) -> list[Child]:
        """Take out the children that have ended by themselves."""
        ended = [child for child in self._children if child.process.poll() is not None]
        self._children = [child for child in self._children if child not in ended]
        return ended

    def stop(self, names: Sequence[str] | None = None) -> None:
        """Stop these children, or all of them, in the reverse order of their start; kill what does not drain."""
        ending = [child for child in reversed(self._children) if names is None or child.name in names]
        deadline_s = time.monotonic() + self._stop_s
        for child in ending:
            _signal(child, signal.SIGTERM)
        for child in ending:
            try:
                child.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(child, signal.SIGKILL)
                child.process.wait()
        self._children = [child for child in self._children if child not in ending]


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, number)


def shadow_command(*arguments: str) -> list[str]:
    """The command line that runs this very installation of Shadow."""
    return [sys.executable, "-m", "shadow", *arguments]
