"""Fetch Apache Kafka's jars with Maven, once per machine, and never trust a cache that was not checked whole.

    lock -> listing matches the marker? -> use it
                   | no
                   v
            temporary directory: download -> check every hash -> write the marker -> rename to its place

A download that is cut off leaves only a temporary directory, so `libs` is either whole or absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.services import ServiceMissing

VERSION = "4.4.0"
RECIPE = Path(__file__).parents[1] / "kafka"

_MARKER = "checked.txt"
_DOWNLOAD_S = 300


def kafka_jars() -> Path:
    """Directory that holds exactly the jars of tests/kafka/SHA256SUMS.

    Raises:
        ServiceMissing: If they are not cached and cannot be fetched, or are not the ones that were recorded.
    """
    home = _cache_home(os.environ) / f"kafka-{VERSION}"
    libs = home / "libs"
    home.mkdir(parents=True, exist_ok=True)
    with _lock(home / "lock"):
        if not is_whole(libs):
            _download(home, libs)
    return libs


def is_whole(libs: Path) -> bool:
    """Whether the directory still has the names and sizes that were there when all hashes were checked."""
    marker = libs / _MARKER
    return marker.is_file() and marker.read_text() == _listing(libs)


def check(libs: Path) -> None:
    """Compare every jar with SHA256SUMS, then write the marker.

    Raises:
        ServiceMissing: If a jar is missing, unknown or different; names the first three of each.
    """
    expected = _sums()
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in libs.glob("*.jar")}
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "not in SHA256SUMS": sorted(found.keys() - expected.keys()),
        "with another hash": sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name]),
    }
    texts = [f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in problems.items() if names]
    if texts:
        raise ServiceMissing(f"the jars that Maven fetched are not the {len(expected)} recorded: {'; '.join(texts)}")
    (libs / _MARKER).write_text(_listing(libs))


def _download(home: Path, libs: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceMissing(f"its jars are not in {libs}, and Maven (mvn) is not installed to fetch them")
    # Under the lock nobody else downloads, so what is there was left by a process that was killed.
    for stale in home.glob("download-*"):
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix="download-", dir=home) as temporary:
        fresh = Path(temporary) / "libs"
        _run_maven(maven, fresh)
        check(fresh)
        shutil.rmtree(libs, ignore_errors=True)
        fresh.rename(libs)


def _run_maven(maven: str, target: Path) -> None:
    command = [maven, "-q", "-B", "-C", "-f", str(RECIPE / "pom.xml"), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={target}", "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_DOWNLOAD_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceMissing(f"Maven did not fetch its jars within {_DOWNLOAD_S} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        raise ServiceMissing(f"Maven ended with code {done.returncode}: {lines[0][:300] if lines else 'no output'}")


def _sums() -> Mapping[str, str]:
    """Hash by jar name."""
    pairs = (line.split() for line in (RECIPE / "SHA256SUMS").read_text().splitlines())
    return {name: digest for digest, name in pairs}


def _listing(libs: Path) -> str:
    """The jars' names and sizes, under the hash of the list that they were checked against."""
    recorded = hashlib.sha256((RECIPE / "SHA256SUMS").read_bytes()).hexdigest()
    return "\n".join([recorded, *sorted(f"{jar.name} {jar.stat().st_size}" for jar in libs.glob("*.jar"))])


def _cache_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shadow"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time look and fetch; the kernel frees it with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
