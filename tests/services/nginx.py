"""Run a real NGINX on a piece of configuration, with addresses of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

from shadow.adapters.embedded import ServerProcess
from tests.services import ServiceMissing
from tests.services.server import Server, listens

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


class Nginx(Server):
    """One NGINX in a directory of its own; a context manager.

    Args:
        part: Content of a file as it would stand in /etc/nginx/conf.d.
        port: On which it listens by this file.

    Raises:
        ServiceMissing: If NGINX is not installed (at start).
        Unavailable: If it does not serve (at start).
    """

    def __init__(self, part: str, port: int) -> None:
        super().__init__("nginx")
        self._part = part
        self.port = port

    @property
    def version(self) -> str:
        return nginx_version(nginx_program())

    def _launch(self) -> None:
        main = self.directory / "nginx.conf"
        main.write_text(_MAIN)
        (self.directory / "part.conf").write_text(self._part)
        self._process = ServerProcess(
            [nginx_program(), "-p", str(self.directory), "-c", str(main), "-e", "stderr"],
            log_path=self.directory / "nginx.log",
            cwd=self.directory,
        )
        self._process.wait_until(lambda: listens(self.port), timeout_s=20.0)


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
