"""The last known state of each run, on this machine, so that `explain` can answer while services are away.

Under `$XDG_STATE_HOME/shadow` (by default `~/.local/state/shadow`): one JSON document per run, and one
that says where a running `shadow up` or `shadow demo` keeps its broker and store. Never the truth: that is Kafka.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

import orjson

from shadow.errors import Usage

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def state_dir() -> Path:
    """Folder of this user's Shadow state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "shadow"


def save(name: str, document: dict[str, Any]) -> None:
    """Write a document, whole or not at all."""
    folder = state_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    Path(file.name).replace(folder / f"{name}.json")


def load(name: str) -> dict[str, Any] | None:
    """Read a document; None where there is none, whatever is asked for as a name.

    Raises:
        Usage: If the file is not what `save` wrote.
    """
    if not _NAME.fullmatch(name):
        return None  # a path, or what no file system takes; `save` gets only names of runs, and our own
    path = state_dir() / f"{name}.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Usage(f"{path} is not readable ({error}); delete it") from error
    if not isinstance(document, dict):
        raise Usage(f"{path} holds a {type(document).__name__}, expected an object; delete it")
    return document


def run_names() -> list[str]:
    """Names of the runs that this machine knows, the one heard of last at the end."""
    paths = sorted(state_dir().glob("run-*.json"), key=lambda path: path.stat().st_mtime)
    return [path.stem.removeprefix("run-") for path in paths]


def forget(name: str) -> None:
    """Delete a document, if it is there."""
    (state_dir() / f"{name}.json").unlink(missing_ok=True)
