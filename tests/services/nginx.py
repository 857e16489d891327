"""Run a real NGINX on a piece of configuration, with addresses of its own."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Self

from shadow.adapters.embedded import LOOPBACK, ServerProcess
from tests.services import ServiceMissing

# Whatever NGINX writes stays in its own directory; in the packaged configuration these are the system's places.
_MAIN = """\
daemon off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include part.conf;
}
"""


class Nginx:
    """One NGINX in a directory of its own; a context manager.

    Args:
        part: Content of a file as it would stand in /etc/nginx/conf.d.
        port: On which it listens by this file.

    Raises:
        ServiceMissing: If NGINX is not installed (at start).
        Unavailable: If it does not serve (at start).
    """

    def __init__(self, part: str, port: int) -> None:
        self._part = part
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: ServerProcess | None = None
        self.port = port

    @property
    def version(self) -> str:
        return nginx_version(nginx_program())

    @property
    def pid(self) -> int:
        """Its main process, while it runs."""
        assert self._process is not None, "it was started"
        return self._process.pid

    def start(self) -> Self:
        program = nginx_program()
        self._temporary = tempfile.TemporaryDirectory(prefix="shadow-nginx-")
        directory = Path(self._temporary.name)
        (directory / "nginx.conf").write_text(_MAIN)
        (directory / "part.conf").write_text(self._part)
        try:
            self._process = ServerProcess(
                [program, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "stderr"],
                log_path=directory / "nginx.log",
                cwd=directory,
            )
            self._process.wait_until(self._serves, timeout_s=20.0)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it and remove its directory."""
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

    def _serves(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1.0).close()
        except OSError:
            return False
        return True


def nginx_program() -> str:
    """Path of NGINX.

    Raises:
        ServiceMissing: If it is not installed.
    """
    # Debian keeps it where only root's PATH leads.
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ServiceMissing("it is not installed (Debian: apt-get install nginx)")
    return program


@cache
def nginx_version(program: str) -> str:
    """Version of an NGINX program, as in `1.22.1`."""
    done = subprocess.run([program, "-v"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    found = re.search(rb"nginx/([0-9.]+)", done.stderr)
    return found.group(1).decode() if found else "unknown"
