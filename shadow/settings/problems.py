"""Collect everything that is wrong with a configuration, each as one sentence with its line."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shadow.errors import InvalidConfiguration
from shadow.settings.section import WHOLE, Section
from shadow.settings.tree import Path, Tree

SHOWN_CHARACTERS_MAX: Final = 60
SECRET_SECTIONS: Final = ("kafka", "redis")


class Problems:
    """The problems of one file.

    Args:
        file: Name of the file, for the sentences' first words.
        tree: What stands in it.
    """

    def __init__(self, file: str, tree: Tree) -> None:
        self._file = file
        self._tree = tree
        self._found: dict[tuple[int, str], None] = {}
        # A value that could not be read at all is named once, and not also for not being what it must be.
        self._unusable = [path for _, path, _ in tree.problems if path]
        for line, path, sentence in tree.problems:
            self.add(path, sentence, line=line)

    def add(self, path: Path, sentence: str, *, line: int | None = None) -> None:
        """Note a problem of the value at a path."""
        at = self._tree.line(path) if line is None else line
        where = f"{dotted(path)}: " if path else ""
        self._found[at, f"{self._file}:{at}: {where}{sentence}"] = None

    def read(self, path: Path, must: str) -> None:
        """Note that the value at a path is not what it must be.

        Args:
            must: For example `must be a rate in (0, 1]`.
        """
        self.add(path, f"read {self.shown(path)}, {must}")

    def unknown_name(self, path: Path, what: str, known: Collection[str]) -> None:
        """Note that the value at a path names something that is not configured."""
        name = str(self._tree.at(path))
        choices = ", ".join(known) if known else "none"
        guess = closest(name, known)
        self.read(path, f"must be {what}: {choices}{f'; did you mean {guess}?' if guess else ''}")

    def take(self, path: Path, model: type[BaseModel], error: ValidationError) -> None:
        """Note everything that a model refused of the value at a path."""
        for details in error.errors(include_url=False, include_context=True, include_input=False):
            self._take(path, model, details)

    def shown(self, path: Path) -> str:
        """The value at a path as a sentence quotes it; secrets are not shown."""
        if is_secret(path):
            return "a value that is not shown"
        value = self._tree.at(path)
        raw = self._tree.raw.get(path)
        if isinstance(value, str) and "://" in value and "@" in value:
            return "a URL with credentials"
        if isinstance(value, dict):
            return "a mapping" if value else "an empty mapping"
        if isinstance(value, list):
            return "a list" if value else "an empty list"
        if value is None:
            return "nothing"
        text = raw if raw is not None else ascii(value) if not str(value).isprintable() else f"'{value}'"
        return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"

    def is_known(self, path: Path) -> bool:
        """Whether anything stands at a path."""
        return path in self._tree.lines

    def reference(self, path: Path) -> str:
        """How a sentence refers to another place of the file."""
        return f"{dotted(path)} in line {self._tree.line(path)}"

    def __len__(self) -> int:
        return len(self._found)

    def raise_any(self) -> None:
        """Raise what was found, by line.

        Raises:
            InvalidConfiguration: If there is anything.
        """
        if self._found:
            raise InvalidConfiguration([sentence for _, sentence in sorted(self._found, key=lambda found: found[0])])

    def _take(self, path: Path, model: type[BaseModel], details: ErrorDetails) -> None:
        loc = tuple(step for step in details["loc"] if step != "[key]")
        at = (*path, *loc)
        if any(at[: len(bad)] == bad for bad in self._unusable):
            return
        context: Mapping[str, Any] = details.get("ctx") or {}
        match details["type"]:
            case "shadow":
                self.read(at, context["must"])
            case kind if kind == WHOLE:
                self.add(at, context["sentence"])
            case "missing":
                self.add(at, "is missing")
            case "too_short":
                if not self._tree.at(at):
                    self.read(at, "must have at least one entry")
            case "too_long":
                self.read(at, f"must have at most {context['max_length']} entries")
            case "extra_forbidden":
                self._unknown_key(at, keys_of(model, loc[:-1]))
            case "model_type" | "model_attributes_type" | "dict_type":
                self.read(at, "must be a mapping")
            case "tuple_type" | "list_type":
                self.read(at, "must be a list")
            case "literal_error":
                self.read(at, f"must be {context['expected']}")
            case "bool_type" | "bool_parsing":
                self.read(at, "must be true or false")
            case "string_type":
                self.read(at, "must be a text; put it in quotes if it looks like a number")
            case _:
                self.read(at, details["msg"][:1].lower() + details["msg"][1:])

    def _unknown_key(self, path: Path, known: Collection[str]) -> None:
        guess = closest(str(path[-1]), known)
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(known)}"
        self.add(path, f"is unknown; {hint}")

    def unknown_key(self, path: Path, known: Collection[str]) -> None:
        """Note that the last step of a path is no key that may stand there."""
        self._unknown_key(path, known)


def dotted(path: Path) -> str:
    """A path as sentences name it, for example `stages.shadow.rules[0].quality`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if step.isprintable() else ascii(step)[1:-1]
            name = name if len(name) <= SHOWN_CHARACTERS_MAX else f"{name[:SHOWN_CHARACTERS_MAX]}…"
            text += f".{name}" if text else name
    return text


def is_secret(path: Path) -> bool:
    """Whether the value at a path may be a secret."""
    if path[:1] and path[0] in SECRET_SECTIONS and len(path) > 1:
        return True
    if path == ("admin", "token"):
        return True
    if len(path) >= 4 and path[:2] == ("notify", "endpoints") and path[3] == "secret":
        return True
    return len(path) >= 4 and path[0] == "workers" and path[2:4] == ("rewrite", "headers")


def closest(name: str, known: Collection[str]) -> str | None:
    """The known name that is most like a name; None where none is alike."""
    found = difflib.get_close_matches(name[:64], list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def keys_of(model: type[BaseModel], loc: Path) -> list[str]:
    """Keys that a model takes at a place inside of it."""
    found: type[BaseModel] | None = model
    for step in loc:
        annotation: Any = None
        if found is not None:
            for name, info in found.model_fields.items():
                if step in (info.alias, name):
                    annotation = info.annotation
        found = _model_in(annotation)
    return [info.alias or name for name, info in found.model_fields.items()] if found is not None else []


def _model_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for part in typing.get_args(annotation) if (found := _model_in(part)) is not None), None)
    return None
