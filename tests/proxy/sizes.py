"""How much memory a process holds."""

from __future__ import annotations

import re
from pathlib import Path

from shadow.proxy.config import Limits

READ_BYTES = 256_000
"""What uvloop reads at once, and so by how much a buffer may be beyond its limit before its other side is stopped."""
CONNECTION_BYTES = Limits().buffer_bytes_max + READ_BYTES
"""What may wait for one client."""

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
