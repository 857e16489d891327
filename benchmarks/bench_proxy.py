"""Shadow's proxy beside NGINX and Envoy: one upstream, one load, one run.

    python -m benchmarks.bench_proxy [--seconds 8] [--rate 500] [--targets direct nginx …] [--shapes small large …]

For each shape of traffic every target first serves as many requests as it can over 32 connections; then all serve half
of what Shadow's proxy reached, or the given rate, at which the latencies are taken. CPU time is user and system time of
the proxy's processes by /proc, with all their threads (Kafka's client's too), divided by the requests answered. Load,
upstream and the server that takes the peers' copies are one program (benchmarks/proxy/load).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.environments import EnvironmentMissing, go_program
from benchmarks.proxy.targets import TARGETS, Ports, Target
from shadow.adapters.embedded import LOOPBACK, ServerProcess, free_port
from shadow.errors import ShadowError
from tests.services import ServiceMissing
from tests.services.envoy import envoy_program, envoy_version
from tests.services.kafka import ApacheKafka
from tests.services.nginx import nginx_program, nginx_version

CONNECTIONS: Final = 32
SHAPES: Final = {
    "small": "1 KB POST, 0.8 KB answer",
    "large": "64 KB POST, 64 KB answer",
    "stream": "1 KB POST, 200 server-sent events",
}
HEAD: Final = (
    "target",
    "requests/s",
    "CPU µs/request",
    "Shadow ÷ it",
    "p50 ms",
    "p99 ms",
    "added p50",
    "added p99",
    "MiB",
    "copies",
)
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One target under one shape.

    Args:
        rate: Requests a second when it serves what it can.
        cpu_us: CPU time per request then; 0 without a process.
        p50_us: At half load, as `p99_us`; of streams, to the first event.
        rss_bytes: After both.
    """

    rate: float
    cpu_us: float
    p50_us: float
    p99_us: float
    rss_bytes: int
    copies: str


def processes_of(pid: int) -> list[int]:
    """A process and its descendants."""
    if not pid:
        return []
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in processes_of(int(child)))]


def cpu_s(pid: int) -> float:
    """User and system time of a process and its descendants."""
    total = 0
    for each in processes_of(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processes_of(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")


class Load:
    """The load generator and the servers behind the proxies."""

    def __init__(self, program: Path, seconds: int) -> None:
        self._program = str(program)
        self._seconds = seconds

    @contextmanager
    def server(self, folder: Path) -> Iterator[int]:
        """An upstream; gives its port."""
        port = free_port()
        process = ServerProcess(
            [self._program, "upstream", f"{LOOPBACK}:{port}"], log_path=folder / f"{port}.log", cwd=folder
        )
        try:
            process.wait_until(lambda: accepts(port), timeout_s=10.0)
            yield port
        finally:
            process.stop()

    def run(self, port: int, shape: str, rate: int = 0, seconds: int | None = None) -> dict[str, Any]:
        """Send requests; returns what was measured, and stops where one failed."""
        words = [f"{LOOPBACK}:{port}", shape, str(CONNECTIONS), str(seconds or self._seconds), str(rate)]
        done = subprocess.run([self._program, "run", *words], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"the load on port {port} ended: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        if found["failed"]:
            raise RuntimeError(f"{found['failed']} of {found['requests']} requests failed")
        return found


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    try:
        with socket.create_connection((LOOPBACK, port), 1.0):
            return True
    except OSError:
        return False


def measure(load: Load, target: Target, shape: str, half: int) -> tuple[Measured, int]:
    """All figures of one target.

    Args:
        half: Rate at which the latencies are taken; 0: half of what this target reached.
    """
    warm = load.run(target.port, shape, seconds=2)
    before_s = cpu_s(target.pid)
    full = load.run(target.port, shape)
    # What was copied is still being written, and that is part of the price.
    copies = target.check(warm["requests"] + full["requests"])
    cpu_us = (cpu_s(target.pid) - before_s) * 1e6 / full["requests"]
    rate = full["requests"] / full["seconds"]
    half = half or int(rate / 2)
    paced = load.run(target.port, shape, rate=half)
    p50, p99 = ("first_p50_us", "first_p99_us") if shape == "stream" else ("p50_us", "p99_us")
    return Measured(rate, cpu_us, paced[p50], paced[p99], rss_bytes(target.pid), copies), half


def table(found: dict[str, Measured]) -> str:
    """The figures as Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "| --- |" + " ---: |" * (len(HEAD) - 2) + " --- |"]
    base, ours = found.get("direct"), found.get("shadow")
    for name, each in found.items():
        has_cpu = each.cpu_us > 0
        ratio = f"{ours.cpu_us / each.cpu_us:.2f}" if ours is not None and has_cpu and each is not ours else "–"
        added = (
            [f"{(a - b) / 1000:+.2f}" for a, b in ((each.p50_us, base.p50_us), (each.p99_us, base.p99_us))]
            if base
            else ["–", "–"]
        )
        cells = [
            TARGETS[name][0],
            f"{each.rate:,.0f}",
            f"{each.cpu_us:.1f}" if has_cpu else "–",
            ratio,
            f"{each.p50_us / 1000:.2f}",
            f"{each.p99_us / 1000:.2f}",
            *(["–", "–"] if each is base else added),
            f"{each.rss_bytes / 2**20:.0f}" if has_cpu else "–",
            each.copies,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run_shape(
    load: Load, shape: str, names: Sequence[str], kafka: ApacheKafka, folder: Path, half: int
) -> dict[str, Measured]:
    """One shape on all targets; Shadow's proxy first, since half of its rate is the load where none is given."""
    found: dict[str, Measured] = {}
    with load.server(folder) as production, load.server(folder) as copies:
        for name in sorted(names, key=lambda name: name != "shadow"):
            with TARGETS[name][1](Ports(production, copies), kafka, folder / f"{shape}-{name}") as target:
                found[name], half = measure(load, target, shape, half)
            print(f"{shape}: {name} done", file=sys.stderr, flush=True)
            time.sleep(1.0)
    shown = table({name: found[name] for name in TARGETS if name in found})
    print(f"\n**{SHAPES[shape]}**, latencies at {half:,} requests/s\n\n{shown}", flush=True)
    return found


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8, help="length of each measurement")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--rate", type=int, default=0, help="requests a second at which the latencies are taken")
    chosen = parser.parse_args()
    try:
        with ExitStack() as stack:
            load = Load(go_program("load", Path(__file__).parent / "proxy" / "load"), chosen.seconds)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shadow-bench-")))
            kafka = stack.enter_context(ApacheKafka(is_measured=True))
            peers = f"NGINX {nginx_version(nginx_program())}, Envoy {envoy_version(envoy_program())}"
            print(
                f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {peers}, "
                f"Apache Kafka {kafka.version}; {CONNECTIONS} connections, {chosen.seconds} s each"
            )
            for shape in chosen.shapes:
                run_shape(load, shape, chosen.targets, kafka, folder, chosen.rate)
    except (EnvironmentMissing, ServiceMissing, ShadowError) as trouble:
        print(f"bench-proxy: {trouble}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
