"""How much memory a process holds."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = r"^%s:\s+(\d+) kB$"


def rss_bytes(pid: int) -> int:
    """Resident memory now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most that was ever resident."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    found = re.search(_LINE % name, Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10
