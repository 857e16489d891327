"""`no_deprecated_api`: the code in the answer uses none of the deprecated names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from shadow.graders.code import (
    PARSED_CHARACTERS_MAX,
    PYTHON,
    blocks_of,
    chains_of_tokens,
    chains_of_tree,
    tree_of,
)
from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed
from shadow.patterns import compiled, found
from shadow.records.grades import Grade


@dataclass(frozen=True)
class NoDeprecatedApi(Plain):
    """Passes where no deprecated name is used in the answer's code; prose about a name is no use of it.

    Code is what stands in fences, or the whole text where that is Python. Python code is judged by its syntax tree
    (names, attributes, imports, aliases followed), Python that does not parse by its tokens, and other languages by
    their words. Code that is too deeply nested to be read has failed. An answer without code passes.

    Args:
        names: A plain name (`legacy_lookup`) is deprecated wherever it stands, a dotted one (`numpy.float`) only there.
    """

    kind: ClassVar[str] = "no_deprecated_api"

    names: Sequence[str]

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("names: read nothing, must name at least one deprecated name")
        _ = self._words

    @cached_property
    def _words(self) -> Any:
        # `$` and `_` belong to names in most languages, so a name inside of a longer one is not found.
        choices = "|".join(name.replace(".", r"\.") for name in self.names)
        return compiled(rf"(?:^|[^0-9A-Za-z_$])(?:{choices})(?:$|[^0-9A-Za-z_$])")

    @cached_property
    def _plain(self) -> frozenset[str]:
        return frozenset(name for name in self.names if "." not in name)

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Look through every block of code."""
        text = answer.text()
        blocks = blocks_of(text)
        try:
            if not blocks:
                return self._graded(self._used_unfenced(text))
            left = PARSED_CHARACTERS_MAX
            for block in blocks:
                is_python = block.language in PYTHON and len(block.code) <= left
                used = self._used_in_python(block.code) if is_python else self._used_in_words(block.code)
                if used is not None:
                    return self._graded(used)
                left -= len(block.code) if is_python else 0
        except (RecursionError, MemoryError):
            return failed("the code is nested too deeply to be read")
        except ValueError as error:
            return failed(f"the code cannot be read: {error}")
        return passed()

    def _graded(self, used: str | None) -> Grade:
        return passed() if used is None else failed(f"the code uses the deprecated {used}")

    def _used_unfenced(self, text: str) -> str | None:
        if len(text) > PARSED_CHARACTERS_MAX:
            return None
        tree = tree_of(text)
        return None if tree is None else self._first_used(chains_of_tree(tree))

    def _used_in_python(self, code: str) -> str | None:
        tree = tree_of(code)
        chains = chains_of_tokens(code) if tree is None else chains_of_tree(tree)
        return self._used_in_words(code) if chains is None else self._first_used(chains)

    def _used_in_words(self, code: str) -> str | None:
        if not found(self._words, code.encode("utf-8", "replace")):
            return None
        return next((name for name in self.names if name in code), "name")

    def _first_used(self, chains: Iterable[str]) -> str | None:
        for chain in chains:
            for part in chain.split("."):
                if part in self._plain:
                    return part
            dotted = f".{chain}."
            for name in self.names:
                if "." in name and f".{name}." in dotted:
                    return name
        return None
