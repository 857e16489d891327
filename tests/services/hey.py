"""The load generator hey, built by Go once per machine into the cache; Go checks its modules against their sums."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.services import ServiceMissing

VERSION: Final = "v0.1.4"
_BUILD_S: Final = 300


def hey_program() -> Path:
    """The program.

    Raises:
        ServiceMissing: If it is not cached and cannot be built.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shadow" / f"hey-{VERSION}"
    program = home / "hey"
    if program.is_file():
        return program
    if shutil.which("go") is None:
        raise ServiceMissing("go is not installed, and builds it")
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["go", "install", f"github.com/rakyll/hey@{VERSION}"],
        # A program appears whole: Go builds it elsewhere and moves it.
        env={**os.environ, "GOBIN": str(home), "GOFLAGS": "-modcacherw"},
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
    )
    if done.returncode != 0:
        raise ServiceMissing(f"go install ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    return program
