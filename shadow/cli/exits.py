"""Exit codes of every command (design.md, section 10)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, ParamSpec

import typer

from shadow.errors import Usage

DONE: Final = 0
USAGE: Final = 2
UNDECIDED: Final = 3
ROLLBACK: Final = 4
BROKEN: Final = 5

BY_DECISION: Final = {"promote": DONE, "hold": UNDECIDED, "expire": UNDECIDED, "rollback": ROLLBACK}

P = ParamSpec("P")


def exiting(command: Callable[P, int]) -> Callable[P, None]:
    """A command whose return value becomes the exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(command(*args, **kwargs))

    return wrapped


def checked_output(output: str) -> None:
    """Raise Usage where `--output` is neither of the two."""
    if output not in ("table", "json"):
        raise Usage(f"--output: read {output!r}, must be table or json")
