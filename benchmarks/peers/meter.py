"""Measure one engine from inside: wall and CPU time from the first record to the last count, peak memory.

CPU time is user and system time of the whole process, so what the client's and the engine's own threads do is in it;
starting up and stopping is not.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.job import Counts, Work

STUCK_S = 30.0
"""Without one more count for so long, an engine has dropped the rest and is measured as it stands."""


class Meter:
    """Watches the counts of one process.

    Args:
        work: Says where the result goes.
        expected: Counts after which the work is done.
    """

    def __init__(self, work: Work, expected: int) -> None:
        self._result = Path(work.result)
        self._expected = expected
        self._began: tuple[float, float] | None = None
        self._ended: tuple[float, float] | None = None
        self.counted = 0
        self.finished = threading.Event()
        """Set when everything is counted, or nothing is counted any more."""

    def begin(self) -> None:
        """The first record is here; every later call changes nothing."""
        if self._began is None:
            self._began = _now()

    def count(self, increments: int = 1) -> None:
        """So many counts were added."""
        self.counted += increments
        if self.counted >= self._expected and self._ended is None:
            self._ended = _now()
            self.finished.set()

    def watch(self) -> None:
        """Notice in a thread of its own when the counts stand still."""
        threading.Thread(target=self._watch, name="meter", daemon=True).start()

    def _watch(self) -> None:
        seen, changed = 0, _now()
        while not self.finished.wait(0.5):
            if self._began is None or self.counted != seen:
                seen, changed = self.counted, _now()
            elif changed[0] + STUCK_S < time.perf_counter():
                self._ended = changed
                self.finished.set()

    def write(self, counts: Counts, versions: Mapping[str, str], **more: Any) -> None:
        """Write the result; the file appears whole."""
        began, ended = self._began, self._ended
        if began is None or ended is None:
            raise RuntimeError(f"{self._result} asks for figures, but counting has not begun and ended")
        document = {
            "wall_s": ended[0] - began[0],
            "cpu_s": ended[1] - began[1],
            "rss_bytes": peak_rss_bytes(),
            "counted": self.counted,
            "versions": dict(versions),
            "counts": [[minute, slice, vector] for (minute, slice), vector in sorted(counts.items())],
            **more,
        }
        fresh = self._result.with_suffix(".new")
        fresh.write_text(json.dumps(document))
        fresh.replace(self._result)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def peak_rss_bytes() -> int:
    """Largest resident memory of this process since it was started."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux it also remembers the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
