"""One request of a suite, and the line of JSON that it stands in. Pure.

    {"id": "…", "key": "…", "method": "POST", "path": "/v1/…", "headers": {…}, "body": …, "expected": {"$.a.b": …}}

`body` is a JSON value (sent as compact JSON) or a string (sent as it is); what is neither JSON nor UTF-8 stands in
`body_base64`. `expected` is put into the body at its paths for the graders alone: the models get the body without it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson

from shadow.bodies import NOT_JSON, json_of
from shadow.errors import InvalidRecord
from shadow.jsonpath import InvalidPath, JsonPath, Step, same_value
from shadow.records.requests import MirroredRequest, Origin

KEYS: Final = ("id", "key", "method", "path", "headers", "body", "body_base64", "expected")
OF_SENDING: Final = frozenset({"x-request-id", "traceparent", "tracestate"})
"""Headers that tell one sending from another: they are not kept."""
OF_CLIENT: Final = frozenset({"user-agent", "accept"}) | OF_SENDING
"""Headers that say who asks, and not what: the same prompt of another client is the same content."""
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class SuiteRequest:
    """One request of a suite.

    Args:
        request_id: Unique in the suite.
        key: Sampling key: requests with the same one are of one session.
        headers: Names in lower case.
        body: As it is sent.
        expected: Value by plain JSON path, for the graders.
    """

    request_id: str
    key: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    expected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """Digest of what a model is asked; two requests with the same one are one."""
        document = json_of(self.body)
        body = self.body if document is NOT_JSON else orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        headers = {name: value for name, value in self.headers.items() if name not in OF_CLIENT}
        head = orjson.dumps([self.method, self.path, headers], option=orjson.OPT_SORT_KEYS)
        return sha256(head + b"\n" + body).digest()

    def asked(self, sequence: int) -> MirroredRequest:
        """The request as the models get it.

        Args:
            sequence: 1 for the first of the suite.
        """
        origin = Origin("suite", 0, sequence, sequence, {})
        return MirroredRequest(
            self.request_id,
            self.key,
            0,
            self.method,
            self.path,
            dict(self.headers),
            self.body,
            0.0,
            1.0,
            {},
            origin,
        )

    def graded_body(self) -> bytes:
        """The body with the expected values in it, as the graders read it."""
        document = json_of(self.body) if self.expected else NOT_JSON
        if document is NOT_JSON:
            return self.body
        is_changed = False
        for text, value in self.expected.items():
            path = JsonPath(text)
            found = path.first(document, _MISSING)
            if found is _MISSING or not same_value(found, value):
                is_changed = True
                _put(document, path.steps or (), value)
        return orjson.dumps(document) if is_changed else self.body


def _put(document: Any, steps: tuple[Step, ...], value: Any) -> None:
    """Set a value, making the objects on the way; a place that cannot be made stays as it is."""
    for step in steps[:-1]:
        if isinstance(document, dict) and isinstance(step, str):
            document = document.setdefault(step, {})
        elif _has_index(document, step):
            document = document[step]
        else:
            return
    if _has_index(document, steps[-1]) or (isinstance(document, dict) and isinstance(steps[-1], str)):
        document[steps[-1]] = value


def _has_index(document: Any, step: Step) -> bool:
    return isinstance(document, list) and isinstance(step, int) and -len(document) <= step < len(document)


def request_from_mirrored(request: MirroredRequest, expected: Mapping[str, JsonPath]) -> SuiteRequest:
    """A recorded request as one of a suite; its expected values are copied out of its body.

    Args:
        expected: Where the graders look for them, by path.
    """
    document = json_of(request.body)
    found = {} if document is NOT_JSON else {text: path.first(document) for text, path in expected.items()}
    return SuiteRequest(
        request_id=request.request_id,
        key=request.key,
        method=request.method,
        path=request.path,
        headers={name: value for name, value in request.headers.items() if name not in OF_SENDING},
        body=request.body,
        expected={text: value for text, value in found.items() if value is not None},
    )


def line_from_request(request: SuiteRequest) -> bytes:
    """One line of JSON, without its end."""
    tree: dict[str, Any] = {
        "id": request.request_id,
        "key": request.key,
        "method": request.method,
        "path": request.path,
        "headers": dict(sorted(request.headers.items())),
    }
    document = json_of(request.body)
    if isinstance(document, dict | list) and orjson.dumps(document) == request.body:
        tree["body"] = document
    else:
        try:
            tree["body"] = request.body.decode()
        except UnicodeDecodeError:
            tree["body_base64"] = base64.b64encode(request.body).decode()
    if request.expected:
        tree["expected"] = dict(request.expected)
    return orjson.dumps(tree)


def request_from_line(line: bytes, where: str) -> SuiteRequest:
    """Read a line.

    Args:
        where: File and number of the line, for sentences.

    Raises:
        InvalidRecord: If it is no request; one sentence says where, what was read and what would be right.
    """
    tree = json_of(line)
    if not isinstance(tree, dict):
        raise _bad(where, "is no JSON object (nor may a key stand in it twice)")
    unknown = [key for key in tree if key not in KEYS]
    if unknown:
        raise _bad(where, f"has the key {unknown[0]!r}, must have only {', '.join(KEYS)}")
    request_id = _text(tree, "id", where)
    headers = tree.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise _bad(where, "has headers that are no mapping of names to texts")
    path = _text(tree, "path", where)
    if not path.startswith("/"):
        raise _bad(where, f"has the path {path!r}, must begin with /")
    return SuiteRequest(
        request_id=request_id,
        key=_text(tree, "key", where) if "key" in tree else request_id,
        method=_text(tree, "method", where),
        path=path,
        headers={name.lower(): value for name, value in headers.items()},
        body=_body(tree, where),
        expected=_expected(tree.get("expected", {}), where),
    )


def _text(tree: Mapping[str, Any], key: str, where: str) -> str:
    value = tree.get(key)
    if not isinstance(value, str) or not value:
        raise _bad(where, f"has no {key}, must have a text that is not empty")
    return value


def _body(tree: Mapping[str, Any], where: str) -> bytes:
    if "body" in tree and "body_base64" in tree:
        raise _bad(where, "has both body and body_base64, must have one of them")
    if "body_base64" in tree:
        try:
            return base64.b64decode(tree["body_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise _bad(where, "has a body_base64 that is no base64") from None
    body = tree.get("body", "")
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def _expected(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(where, "has an expected that is no mapping of JSON paths to values")
    for text in value:
        try:
            is_plain = bool(JsonPath(text).steps)
        except InvalidPath:
            is_plain = False
        if not is_plain:
            raise _bad(where, f"expects a value at {text!r}, must be a plain JSON path such as $.metadata.answer")
    return value


def _bad(where: str, words: str) -> InvalidRecord:
    return InvalidRecord(f"{where} {words}")
