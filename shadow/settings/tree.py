"""Read YAML into plain values with the line of each, strictly: what YAML lets through by surprise is refused.

Of YAML only mappings, lists and scalars are taken. Anchors, aliases, tags, repeated keys, several documents and deep
nesting are refused. A plain scalar is null, true, false, a decimal number or a text, so `on`, `1_0`, `010` and
`1:30` are texts here. Nothing that the file says is constructed by the YAML library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

BYTES_MAX: Final = 256 * 1024
DEPTH_MAX: Final = 32
DIGITS_MAX: Final = 40

Path = tuple[str | int, ...]

_INTEGER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[+-]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][+-]?[0-9]+)?")
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
}


@dataclass(slots=True)
class Tree:
    """What stands in a file.

    Args:
        root: Plain values: dict, list, str, int, float, bool, None.
        lines: Line of each value, by its path; of a mapping's entry that of its key.
        raw: How a plain scalar that is no text is written, by its path.
        problems: (line, path, sentence) of what the file should not contain; the tree is read to its end all the same.
        is_whole: False where the file could not be read to its end.
    """

    root: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    raw: dict[Path, str] = field(default_factory=dict)
    problems: list[tuple[int, Path, str]] = field(default_factory=list)
    is_whole: bool = True

    def line(self, path: Path) -> int:
        """Line of a value, or of the nearest one around it."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return 1

    def at(self, path: Path, default: Any = None) -> Any:
        """The value at a path."""
        value = self.root
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return default
        return value


def tree_from_bytes(content: bytes) -> Tree:
    """Read a file's content; everything wrong with it is in the tree's problems."""
    tree = Tree()
    try:
        _check_size(content)
        text = content.decode("utf-8-sig")
        _Builder(tree).read(text)
    except _Stop as stop:
        tree.problems.append((stop.line, (), stop.sentence))
        tree.is_whole = False
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        tree.problems.append((line, (), f"is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}"))
        tree.is_whole = False
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        tree.problems.append((line, (), f"contains the character U+{int(error.character):04X}, which YAML has not"))
        tree.is_whole = False
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "it cannot be read"
        tree.problems.append((mark.line + 1 if mark else 1, (), _words(problem)))
        tree.is_whole = False
    return tree


class _Stop(Exception):
    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


def _check_size(content: bytes) -> None:
    if len(content) > BYTES_MAX:
        raise _Stop(1, f"has {len(content):,} bytes, must have at most {BYTES_MAX:,}")


def _words(problem: str) -> str:
    if "'\\t'" in problem:
        return "a tab stands where only spaces may indent"
    return f"is not YAML: {problem}"


@dataclass(slots=True)
class _Frame:
    """An open mapping or list."""

    value: dict[str, Any] | list[Any]
    path: Path
    key: str | None = None
    key_line: int = 0


class _Builder:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._frames: list[_Frame] = []
        self._documents = 0
        self._skipped = 0

    def read(self, text: str) -> None:
        for event in self._events(text):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise _Stop(line, "a second document begins, must be one only")
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
            elif isinstance(event, yaml.NodeEvent):
                self._node(event, line)

    def _events(self, text: str) -> Iterator[Any]:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)

    def _node(self, event: yaml.NodeEvent, line: int) -> None:
        frame = self._frames[-1] if self._frames else None
        is_key = frame is not None and isinstance(frame.value, dict) and frame.key is None and not self._skipped
        if self._skipped or (is_key and not isinstance(event, yaml.ScalarEvent)):
            if is_key:
                assert frame is not None
                self._problem(line, frame.path, "a key is no plain text, must be one")
            self._skip(event, frame if is_key else None, line)
            return
        if is_key:
            assert frame is not None and isinstance(event, yaml.ScalarEvent)
            self._key(frame, event, line)
            return
        path = self._path(frame)
        self._refuse_extras(event, path, line)
        self._tree.lines[path] = frame.key_line if frame is not None and frame.key is not None else line
        if isinstance(event, yaml.ScalarEvent):
            self._put(frame, self._scalar(event, path))
        elif isinstance(event, yaml.AliasEvent):
            self._put(frame, None)
        else:
            if len(self._frames) >= DEPTH_MAX:
                raise _Stop(line, f"is nested more than {DEPTH_MAX} levels deep")
            value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._put(frame, value)
            self._frames.append(_Frame(value, path))

    def _skip(self, event: yaml.NodeEvent, frame: _Frame | None, line: int) -> None:
        """Pass over a key that is a collection or an alias; its value is read under a name that no key has."""
        if isinstance(event, yaml.CollectionStartEvent):
            self._skipped += 1
        if frame is not None:
            frame.key, frame.key_line = "\0", line

    def _end(self) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        frame = self._frames.pop()
        if isinstance(frame.value, dict):
            frame.value.pop("\0", None)

    def _key(self, frame: _Frame, event: yaml.ScalarEvent, line: int) -> None:
        assert isinstance(frame.value, dict)
        key = event.value
        self._refuse_extras(event, (*frame.path, key), line)
        if key in frame.value:
            first = self._tree.line((*frame.path, key))
            self._problem(line, (*frame.path, key), f"stands twice, first in line {first}, must stand once")
            key = "\0"
        frame.key, frame.key_line = key, line

    def _path(self, frame: _Frame | None) -> Path:
        if frame is None:
            return ()
        if isinstance(frame.value, list):
            return (*frame.path, len(frame.value))
        assert frame.key is not None
        return (*frame.path, frame.key)

    def _put(self, frame: _Frame | None, value: Any) -> None:
        if frame is None:
            self._tree.root = value
        elif isinstance(frame.value, list):
            frame.value.append(value)
        else:
            assert frame.key is not None
            frame.value[frame.key] = value
            frame.key = None

    def _refuse_extras(self, event: yaml.NodeEvent, path: Path, line: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._problem(line, path, f"uses the alias *{event.anchor}, must be written out")
        elif event.anchor is not None:
            self._problem(line, path, f"has the anchor &{event.anchor}, must have none: aliases are not taken")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._problem(line, path, f"has the tag {tag}, must have none")

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        text: str = event.value
        if event.style:
            return text
        if text in _WORDS:
            self._tree.raw[path] = text
            return _WORDS[text]
        if _INTEGER.fullmatch(text) and len(text) <= DIGITS_MAX:
            self._tree.raw[path] = text
            return int(text)
        if _FLOAT.fullmatch(text):
            self._tree.raw[path] = text
            return float(text)
        return text

    def _problem(self, line: int, path: Path, sentence: str) -> None:
        self._tree.problems.append((line, path, sentence))
