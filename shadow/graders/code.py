"""Find the code in an answer, and the names that it uses. Pure; bounded in time by the size of what it reads."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PARSED_CHARACTERS_MAX: Final = 64 * 1024
"""Code of one answer that is parsed; what comes behind it is searched word by word."""

PYTHON: Final = frozenset({"python", "py", "python3", "py3", "pycon", "ipython", ""})
FENCES: Final = ("```", "~~~")


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of code.

    Args:
        language: What stands behind the fence, in lower case; empty where nothing does.
    """

    language: str
    code: str


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a text; one that is never closed goes to its end."""
    blocks: list[Block] = []
    fence, language, lines = "", "", list[str]()
    for line in text.splitlines():
        stripped = line.strip()
        if not fence and stripped.startswith(FENCES):
            fence = stripped[: len(stripped) - len(stripped.lstrip(stripped[0]))]
            words = stripped[len(fence) :].split()
            language, lines = words[0].lower().strip("{}.") if words else "", []
        elif fence and stripped.startswith(fence) and not stripped.strip(fence[0]):
            blocks.append(Block(language, "\n".join(lines)))
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        blocks.append(Block(language, "\n".join(lines)))
    return blocks


def tree_of(code: str) -> ast.Module | None:
    """The syntax tree; None where the code is not Python.

    Raises:
        RecursionError, MemoryError, ValueError: If it is nested too deeply or contains what no parser takes.
    """
    with warnings.catch_warnings():
        # What the parser warns of (an unknown escape, `is` with a number) says nothing about the names.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except SyntaxError:
            return None


def chains_of_tree(tree: ast.Module) -> Iterator[str]:
    """The dotted names that code uses, with import aliases resolved: `np.float` is `numpy.float`.

    Names inside of texts are not seen, but for the second argument of `getattr`.
    """
    aliases: dict[str, str] = {}
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                aliases[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module or ''}.{alias.name}"
                aliases[alias.asname or alias.name] = name
                yield name
    for node in nodes:
        chain = _chain(node)
        if chain is not None:
            first, dot, rest = chain.partition(".")
            yield f"{aliases.get(first, first)}{dot}{rest}"


def _chain(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call):
        is_getattr = isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1
        name = node.args[1] if is_getattr else None
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return None
        return f"{_chain(node.args[0]) or ''}.{name.value}"
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif parts:
        # The names behind a call or an index, `client().search.run`, without what they are called on.
        parts.append("")
    return ".".join(reversed(parts)) if parts else None


def chains_of_tokens(code: str) -> Iterator[str] | None:
    """The dotted names in code that does not parse, texts and comments left out; None where it has no tokens either."""
    chains: list[str] = []
    is_dotted = False
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.NAME:
                if is_dotted and chains:
                    chains[-1] += f".{token.string}"
                else:
                    chains.append(token.string)
                is_dotted = False
            else:
                is_dotted = token.type == tokenize.OP and token.string == "."
    except (tokenize.TokenError, SyntaxError):
        return None
    return iter(chains)
