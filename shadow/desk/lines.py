"""Read a person's answer from one line of JSON, naming everything that is wrong with it. Pure.

    {"position": "0/4711", "request_id": "…", "answer": "twice 4 is 8", "by": "ada"}

An exported question with `answer` added to it is such a line, so its other keys are taken and passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shadow.errors import Usage
from shadow.gate.strict_json import shown, strict_object

PEOPLE: Final = "people"
"""Version of the answers of which nobody says by whom they are."""
QUESTION_KEYS: Final = ("run", "request_time_us", "method", "path", "request")
"""Keys of an exported question beside `position` and `request_id`."""
NAME_CHARACTERS_MAX: Final = 128

_POSITION: Final = re.compile(r"(0|[1-9][0-9]{0,5})/(0|[1-9][0-9]{0,17})")
_NEEDED: Final = ("position", "request_id", "answer")
_KNOWN: Final = (*_NEEDED, "by", *QUESTION_KEYS)

Position = tuple[int, int]
"""Partition and offset of a request."""


@dataclass(frozen=True, slots=True)
class HumanAnswer:
    """What a person answered to one request.

    Args:
        position: Partition and offset of the request.
        body: The answer as graders read it.
        content_type: Of the body.
        by: Who answered, the version of the role.
    """

    position: Position
    request_id: str
    body: bytes
    content_type: str
    by: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line, read.

    Args:
        where: What sentences call it, for example `line 3`.
        answer: None where something is wrong.
        problems: What is wrong, one sentence each, without `where`.
    """

    where: str
    answer: HumanAnswer | None
    problems: tuple[str, ...] = ()


def position_text(position: Position) -> str:
    """A position as lines write it."""
    return f"{position[0]}/{position[1]}"


def line_from_bytes(value: bytes, where: str, *, run: str, body_bytes_max: int) -> Line:
    """Read one line of a file.

    Args:
        run: The run to which the answers belong; a line that names another is wrong.
        body_bytes_max: Largest answer.
    """
    if not value.lstrip().startswith(b"{"):
        return Line(where, None, (f"is no JSON object; read {shown(value[:40].decode('utf-8', 'replace'))}",))
    try:
        tree = strict_object(value, where)
    except Usage as error:
        return Line(where, None, (str(error).removeprefix(f"{where} "),))
    return line_from_tree(tree, where, run=run, body_bytes_max=body_bytes_max)


def line_from_tree(tree: object, where: str, *, run: str, body_bytes_max: int) -> Line:
    """Read a line whose JSON was read strictly already."""
    if not isinstance(tree, dict):
        return Line(where, None, (f"is no JSON object; read {shown(tree)}",))
    problems = [f"has the unknown key {shown(key)}; known are {', '.join(_KNOWN)}" for key in tree if key not in _KNOWN]
    if tree.get("run", run) != run:
        problems.append(f"is of the run {shown(tree['run'])}, not of {run}")
    position = _position(tree, problems)
    request_id = _text(tree, "request_id", problems)
    by = _text(tree, "by", problems) if "by" in tree else PEOPLE
    body, content_type = _body(tree, problems, body_bytes_max)
    if problems or position is None:
        return Line(where, None, tuple(problems))
    return Line(where, HumanAnswer(position, request_id, body, content_type, by))


def _position(tree: Mapping[str, Any], problems: list[str]) -> Position | None:
    value = tree.get("position")
    found = _POSITION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        said = f"read {shown(value)}" if "position" in tree else "is missing"
        problems.append(f'position: {said}, must be "PARTITION/OFFSET" as it was exported, such as "0/4711"')
        return None
    return int(found[1]), int(found[2])


def _text(tree: Mapping[str, Any], key: str, problems: list[str]) -> str:
    value = tree.get(key)
    is_right = isinstance(value, str) and 0 < len(value) <= NAME_CHARACTERS_MAX and value.isprintable()
    if not is_right or not str(value).strip():
        said = f"read {shown(value)}" if key in tree else "is missing"
        problems.append(f"{key}: {said}, must be a text of 1 to {NAME_CHARACTERS_MAX} printable characters")
    return str(value)


def _body(tree: Mapping[str, Any], problems: list[str], body_bytes_max: int) -> tuple[bytes, str]:
    value = tree.get("answer")
    if value is None or value == {} or value == [] or (isinstance(value, str) and not value.strip()):
        said = "is empty" if "answer" in tree else "is missing"
        problems.append(f"answer: {said}; leave a request out that nobody answered")
        return b"", ""
    if isinstance(value, str):
        body, content_type = value.encode(), "text/plain; charset=utf-8"
    else:
        # Not orjson: a whole number of more than 64 bits would come out as another one.
        try:
            body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except RecursionError:
            problems.append("answer: is nested too deeply")
            return b"", ""
        content_type = "application/json"
    if len(body) > body_bytes_max:
        problems.append(f"answer: has {len(body):,} bytes; proxy.mirror.body_max allows {body_bytes_max:,}")
    return body, content_type
