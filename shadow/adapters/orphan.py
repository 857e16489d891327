"""End when the parent process ends, so that a killed supervisor leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
import time

POLL_S = 1.0


def end_with_parent() -> None:
    """Watch the parent named by `SHADOW_PARENT_PID`, and drain (SIGTERM to ourselves) once it is gone.

    Polling the parent's id works on every POSIX system, and also where the parent died before we started.
    """
    parent = os.environ.get("SHADOW_PARENT_PID", "")
    if parent.isdigit():
        threading.Thread(target=_watch, args=(int(parent),), name="parent-watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
