"""Find the files that ship with Shadow: `schemas` and `examples`, from the wheel or from the source tree."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import shadow
from shadow.errors import Usage


def data_dir(name: str) -> Path:
    """The directory of shipped files of this name.

    The source tree comes first, so that a checkout uses its own files and never an installed wheel's.

    Args:
        name: `schemas` or `examples`.

    Raises:
        Usage: If the installation lacks it.
    """
    package = Path(str(resources.files(shadow)))
    candidates = (package.parent / name, package / "_data" / name)
    if (package.parent / "pyproject.toml").is_file() and candidates[0].is_dir():
        return candidates[0]
    if candidates[1].is_dir():
        return candidates[1]
    raise Usage(
        f"the directory {name!r} of this installation is missing; looked at {candidates[0]} and {candidates[1]}"
    )
