"""Logs go to stderr, one line a record: short text for people, JSON for machines.

    12:03:04 comparator  partition 3: reading from offset 120
    {"time":"2026-01-31T12:03:04.123Z","level":"info","process":"comparator","message":"…"}

Shadow's own errors are sentences and never come with a traceback; anything else that was logged with one is a
defect, and keeps it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from shadow.errors import ShadowError, Usage

FORMATS = ("text", "json")


def configure(format: str = "text", level: str = "info") -> None:
    """Send every log record of this process to stderr.

    Args:
        format: `text` or `json`.
        level: Level of Shadow's own loggers; those of libraries stay at warning.

    Raises:
        Usage: If the format or the level is unknown.
    """
    if format not in FORMATS:
        raise Usage(f"log format: read {format!r}, must be one of {', '.join(FORMATS)}")
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise Usage(f"log level: read {level!r}, must be one of debug, info, warning, error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if format == "json" else TextLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("shadow").setLevel(number)


class TextLine(logging.Formatter):
    """`12:03:04 comparator  message`, with the level named from warning on."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        line = f"{at} {_process(record):<10}  {level}{_message(record)}"
        trace = _trace(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonLine(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": _process(record),
            "message": _message(record),
        }
        trace = _trace(self, record)
        if trace:
            line["traceback"] = trace
        return json.dumps(line)


class Repeated:
    """Logs the same trouble at most every few seconds, with the number of times it was left out.

    What is the same is told by the message before its arguments are filled in.

    Args:
        logger: Where to log.
        every_s: Shortest time between two lines of one message.
        now_s: Monotonic clock.
    """

    def __init__(
        self, logger: logging.Logger, *, every_s: float = 5.0, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._every_s = every_s
        self._now_s = now_s
        self._seen: dict[str, tuple[float, int]] = {}

    def warning(self, message: str, *args: object) -> None:
        """Log at level warning, unless this message was logged a moment ago."""
        self._say(logging.WARNING, message, args)

    def error(self, message: str, *args: object) -> None:
        """Log at level error, unless this message was logged a moment ago."""
        self._say(logging.ERROR, message, args)

    def _say(self, level: int, message: str, args: tuple[object, ...]) -> None:
        now_s = self._now_s()
        said_s, left_out = self._seen.get(message, (-self._every_s, 0))
        if now_s - said_s < self._every_s:
            self._seen[message] = (said_s, left_out + 1)
            return
        self._seen[message] = (now_s, 0)
        if left_out:
            self._logger.log(level, message + " (and %d times before)", *args, left_out)
        else:
            self._logger.log(level, message, *args)


def _process(record: logging.LogRecord) -> str:
    return record.name.removeprefix("shadow.")


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and isinstance(record.exc_info[1], ShadowError) and str(record.exc_info[1]) not in text:
        text = f"{text}: {record.exc_info[1]}"
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    if not record.exc_info or record.exc_info[1] is None or isinstance(record.exc_info[1], ShadowError):
        return None
    return formatter.formatException(record.exc_info)
