"""Who may import whom (design.md, section 13), read from the syntax tree."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PURE = (
    "shadow.stream",
    "shadow.graders",
    "shadow.gate",
    "shadow.records",
    "shadow.notify",
    "shadow.training",
    "shadow.suite",
)
OURS_FOR_PURE = (
    "shadow.records",
    "shadow.errors",
    "shadow.bodies",
    "shadow.jsonpath",
    "shadow.patterns",
    "shadow.usage",
    "shadow.graders",
)
FOREIGN_FOR_PURE = {"numpy", "scipy", "orjson", "re2", "jsonpath", "pydantic", "zstandard", "brotli"}
STANDARD_FOR_PURE_DENIED = {"time", "socket", "subprocess", "threading", "asyncio", "os", "pathlib", "random", "urllib"}
FOLDS = {"fold", "state", "decide"}
"""The only files of `stream/` that import several links: the fold, what it decides, and its state."""


def modules(*folders: str) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def pure_modules() -> list[tuple[str, Path]]:
    return [(name, path) for name, path in modules("shadow") if any(is_in(name, pure) for pure in PURE)]


@pytest.mark.parametrize(("name", "path"), pure_modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_pure_code_knows_no_clock_and_no_service(name, path):
    """
    Links, graders, the gate and the records import records, errors and pure libraries only.
    """
    own = next(pure for pure in PURE if is_in(name, pure))
    for imported in imports_of(path):
        top = imported.split(".")[0]
        if top in ("shadow", "consumers"):
            allowed = (own, *OURS_FOR_PURE)
            assert any(is_in(imported, each) for each in allowed), f"{name} imports {imported}"
        else:
            assert top not in STANDARD_FOR_PURE_DENIED, f"{name} imports {imported}"
            assert top in FOREIGN_FOR_PURE or top in sys.stdlib_module_names, f"{name} imports {imported}"


def test_a_link_imports_no_other_link():
    """
    Only the fold and its state bring several links together.
    """
    links = {path.stem for _, path in modules("shadow/stream")} - {"__init__"}
    for name, path in modules("shadow/stream"):
        if path.stem in FOLDS:
            continue
        others = {imported.split(".")[2] for imported in imports_of(path) if imported.startswith("shadow.stream.")}
        assert not (others & links) - {path.stem}, f"{name} imports {others}"


def test_only_the_command_line_knows_every_process():
    """
    Nobody but shadow/cli imports consumers, and no consumer imports another one.
    """
    for name, path in modules("shadow", "consumers"):
        for imported in imports_of(path):
            if is_in(imported, "consumers") and not is_in(name, "shadow.cli"):
                own = ".".join(name.split(".")[:2])
                assert is_in(imported, "consumers.loop") or is_in(imported, own), f"{name} imports {imported}"


def test_an_adapter_imports_ports_and_no_link():
    """
    Adapters know ports, records, errors and pure helpers, never a link of the stream or a process.
    """
    for name, path in modules("shadow/adapters"):
        for imported in imports_of(path):
            assert not is_in(imported, "shadow.cli"), f"{name} imports {imported}"
            assert not is_in(imported, "shadow.gate"), f"{name} imports {imported}"
