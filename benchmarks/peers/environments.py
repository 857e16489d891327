"""Environments of the other engines, made once in the user's cache and again when what they are made of changes.

<cache>/shadow/bench/<name>/made.txt     hash of the pinned versions and the sources; written last
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
STREAMS: Final = HERE / "streams"
INSTALL_S: Final = 600
MARKER: Final = "made.txt"


class EnvironmentMissing(Exception):
    """An engine's environment cannot be made; the text says why in one sentence."""


def python_of(name: str) -> Path:
    """Python of the environment that holds an engine, `requirements-<name>.txt`.

    Raises:
        EnvironmentMissing: If it cannot be installed.
    """
    requirements = HERE / f"requirements-{name}.txt"

    def make(directory: Path) -> None:
        uv = _program("uv")
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(directory)])
        python = str(directory / "bin" / "python")
        _run([uv, "pip", "install", "--quiet", "--python", python, "--requirement", str(requirements)])

    return _made(name, [requirements], make) / "bin" / "python"


def streams_class_path() -> str:
    """Class path of the Kafka Streams program: its dependencies through Maven, its classes through javac.

    Raises:
        EnvironmentMissing: If Maven or a JDK is missing, or one of them fails.
    """
    sources = sorted((STREAMS / "src").rglob("*.java"))

    def make(directory: Path) -> None:
        libs, classes = directory / "libs", directory / "classes"
        maven = [_program("mvn"), "-q", "-B", "-C", "-f", str(STREAMS / "pom.xml"), "dependency:copy-dependencies"]
        _run([*maven, f"-DoutputDirectory={libs}", "-DincludeScope=runtime"])
        javac = [_program("javac"), "-Xlint:all,-processing", "-d", str(classes), "-cp", f"{libs}/*"]
        _run([*javac, *map(str, sources)])

    directory = _made("streams", [STREAMS / "pom.xml", *sources], make)
    return f"{directory / 'classes'}:{directory / 'libs'}/*"


def go_program(name: str, sources: Path) -> Path:
    """A program built from a Go module without dependencies.

    Raises:
        EnvironmentMissing: If Go is missing or refuses the module.
    """

    def make(directory: Path) -> None:
        directory.mkdir()
        _run([_program("go"), "build", "-C", str(sources), "-o", str(directory / name), "."])

    return _made(name, sorted(path for path in sources.iterdir() if path.is_file()), make) / name


def _made(name: str, inputs: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """The directory of an environment; made where it is absent or made of something else."""
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shadow" / "bench" / name
    digest = hashlib.sha256(b"\0".join([sys.version.encode(), *(path.read_bytes() for path in inputs)])).hexdigest()
    marker = directory / MARKER
    if marker.is_file() and marker.read_text() == digest:
        return directory
    print(f"making the environment of {name} in {directory}", flush=True)
    # A virtual environment cannot be moved, so it is made in its place; without the marker it counts as absent.
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    make(directory)
    marker.write_text(digest)
    return directory


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise EnvironmentMissing(f"{name} is not installed")
    return found


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentMissing(f"{Path(command[0]).name} did not end within {INSTALL_S} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        words = " | ".join(lines[-3:])[:500] or "no output"
        raise EnvironmentMissing(f"{Path(command[0]).name} ended with code {done.returncode}: {words}")
