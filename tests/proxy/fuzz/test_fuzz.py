"""Coverage-guided fuzzing keeps every promise, for two minutes in every run and for an hour of CPU on request."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proxy.fuzz.memory import memory_loop
from tests.proxy.fuzz.promises import check
from tests.proxy.fuzz.scene import SMALL, play, scene_of
from tests.proxy.fuzz.seeds import seeds, write_corpus, write_dictionary

ROOT = Path(__file__).parents[3]
LONG_S = 3600
UNITS = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
PROGRESS = re.compile(r"#\d+\s+(?:NEW|REDUCE|pulse|RELOAD)")
COVERAGE = re.compile(r"INITED cov: (\d+)")


def fuzz(folder: Path, time_s: int, *options: str) -> tuple[int, int]:
    """Fuzz in a process of its own, which must find nothing; returns the inputs played, and edges the seeds reached."""
    begun = write_corpus(folder / "corpus")
    write_dictionary(folder / "words")
    command = [sys.executable, "-m", "tests.proxy.fuzz.http1", f"-max_total_time={time_s}", f"-dict={folder}/words"]
    command += ["-max_len=2048", "-timeout=60", "-print_final_stats=1", f"-artifact_prefix={folder}/", *options]
    command.append(str(folder / "corpus"))
    print(*options)
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=time_s * 2 + 120, cwd=ROOT, check=False
    )
    said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if not PROGRESS.match(line))
    found = [path.read_bytes() for path in folder.glob("*-*") if path.is_file()]
    assert 0 == done.returncode, f"found: {found}\n{said[-6000:]}"
    units, coverage = UNITS.search(said), COVERAGE.search(said)
    assert units is not None and coverage is not None, said[-6000:]
    print(f"{units[1]} inputs in {time_s} s, {begun} seeds, {coverage[1]} edges reached by them")
    return int(units[1]), int(coverage[1])


FOUND = (
    # The client resets as the upstream grants it a WebSocket: there is no tunnel then, and none is counted.
    b"\x00\xff\xffGET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x00!\x00|"
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nConnection: Upgrade\r\n",
    # The body of a HEAD request stands still: the 408 had a body.
    b"\x01\x01\x04HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: X\r\n\r\n5\x00~\r\n"
    b"h\x0bl\x00,lo\r\n0\r\nX: 1\r\n\r\n",
)
"""What broke a promise once."""


@pytest.mark.parametrize("found", FOUND)
def test_what_was_found_once_keeps_every_promise(found: bytes):
    """
    Inputs on which the fuzzing stopped.
    """
    with memory_loop() as loop:
        scene = scene_of(found)
        check(scene, play(scene, loop, SMALL))


def test_seeds_keep_every_promise():
    """
    Each seed by itself, so that a broken promise is seen here with its input and not at the fuzzing's end.
    """
    with memory_loop() as loop:
        for seed in seeds():
            scene = scene_of(seed)
            check(scene, play(scene, loop, SMALL))


def test_two_minutes_of_fuzzing_find_nothing(tmp_path: Path):
    """
    From the seeds and a fixed random seed, no input of two minutes breaks a promise.
    """
    units, coverage = fuzz(tmp_path, 120, "-seed=1")
    # Without instrumentation libFuzzer would see next to no edges, and search blindly.
    assert coverage > 500
    assert units > len(list(seeds()))


@pytest.mark.fuzz
@pytest.mark.timeout(3 * LONG_S)
def test_an_hour_of_fuzzing_finds_nothing(tmp_path: Path):
    """
    No input of an hour breaks a promise; each run searches elsewhere, from the seed that it prints.
    """
    units, _ = fuzz(tmp_path, LONG_S, f"-seed={random.randrange(1, 1 << 31)}")
    assert units > len(list(seeds()))
