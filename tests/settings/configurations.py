"""The configurations that tests start from."""

from __future__ import annotations

from pathlib import Path

from shadow.errors import InvalidConfiguration
from shadow.settings.loader import settings_from_bytes
from shadow.settings.settings import Settings

HERE = Path(__file__).parent
BASE = (HERE / "base.yaml").read_text(encoding="utf-8")


def changed(old: str, new: str) -> str:
    """base.yaml with one place replaced."""
    assert BASE.count(old) == 1, f"{old!r} stands {BASE.count(old)} times in base.yaml"
    return BASE.replace(old, new)


def settings_of(text: str = BASE, env: dict[str, str] | None = None) -> Settings:
    """Settings of a configuration's text."""
    return settings_from_bytes(text.encode(), env or {})


def problems_of(content: str | bytes) -> list[str]:
    """Everything that is said about a configuration; empty where it loads."""
    try:
        settings_from_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"), {})
    except InvalidConfiguration as error:
        return error.problems
    return []
