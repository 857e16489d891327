"""Change a recorded request for one role before it is sent: JSON fields, headers, and the path's prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import SecretStr

from shadow.errors import Usage

ENV: Final = "env:"
_STEP: Final = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\['([^']+)'\]|\[(\d+)\]")
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Step = str | int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """How a role's requests differ from the recorded ones.

    Args:
        json: Value by path, each path as its steps; set where everything but the last step is there.
        headers: Value by name in lower case; they replace recorded ones.
        path_prefix: Put before the recorded path.
    """

    json: tuple[tuple[tuple[Step, ...], Any], ...] = ()
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    path_prefix: str = ""

    def body(self, body: bytes) -> bytes:
        """The body with the JSON fields set; a body that is not JSON stays as it is.

        Integers beyond 64 bits become floats, as the JSON parser has no others.
        """
        if not self.json:
            return body
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        for steps, value in self.json:
            _set(document, steps, value)
        return orjson.dumps(document)


def rewrite_from_settings(
    *,
    json: Mapping[str, Any] | None = None,
    headers: Mapping[str, str | SecretStr] | None = None,
    path_prefix: str = "",
    environment: Mapping[str, str],
) -> Rewrite:
    """Make a Rewrite of what stands in the configuration.

    Args:
        json: Value by path, of the forms `$.model`, `$['model']` and `$.messages[0].role`.
        headers: Value by name; `env:NAME` is read from the environment, now.
        path_prefix: Empty, or a path that begins with `/`.

    Raises:
        Usage: If a path or a header cannot be understood, or an environment variable is not set.
    """
    if path_prefix and not path_prefix.startswith("/"):
        raise Usage(f"rewrite.path_prefix: read {path_prefix!r}, must begin with /")
    return Rewrite(
        json=tuple((_steps(path), value) for path, value in (json or {}).items()),
        headers={name.lower(): _header(name, value, environment) for name, value in (headers or {}).items()},
        path_prefix=path_prefix.rstrip("/"),
    )


def _steps(path: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    at = 1
    while path.startswith("$") and at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            break
        name, quoted, index = found.groups()
        steps.append(int(index) if index is not None else name or quoted)
        at = found.end()
    if not steps or at != len(path):
        raise Usage(f"rewrite.json: read {path!r}, must be a path such as $.model or $.messages[0].role")
    return tuple(steps)


def _set(document: Any, steps: tuple[Step, ...], value: Any) -> None:
    for step in steps[:-1]:
        document = _member(document, step)
    last = steps[-1]
    if isinstance(last, str):
        if isinstance(document, dict):
            document[last] = value
    elif isinstance(document, list) and last < len(document):
        document[last] = value


def _member(document: Any, step: Step) -> Any:
    if isinstance(step, str):
        return document.get(step) if isinstance(document, dict) else None
    return document[step] if isinstance(document, list) and step < len(document) else None


def _header(name: str, value: str | SecretStr, environment: Mapping[str, str]) -> SecretStr:
    if TOKEN.fullmatch(name) is None:
        raise Usage(f"rewrite.headers: read the name {name!r}, must be an HTTP header name")
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text.startswith(ENV):
        variable = text.removeprefix(ENV)
        found = environment.get(variable)
        if found is None:
            raise Usage(f"rewrite.headers: {name}: the environment variable {variable} is not set")
        text = found.strip()
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise Usage(f"rewrite.headers: the value of {name} contains a control character")
    return SecretStr(text)
