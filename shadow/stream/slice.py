"""Say in which slices a request is, and in which of them its pair counts. Pure.

All patterns on a request's text are searched in one pass, whatever their number. Whatever a request contains,
nothing here raises: a body that is not sound JSON has no JSON fields, and its text is the body itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from shadow.bodies import NOT_JSON, Unreadable, decoded, inflated, json_of, strings_of
from shadow.jsonpath import JsonPath, same_value
from shadow.patterns import SUBJECT_BYTES_MAX, PatternSet, compiled
from shadow.records.requests import MirroredRequest
from shadow.records.slices import ALL, SliceSpec

_UNREAD: Final = object()


class Slicer:
    """The slices of a configuration, compiled.

    Args:
        specs: Slices in the order of the configuration.

    Raises:
        ValueError: If a pattern or a JSON path cannot be compiled; the text says why.
    """

    def __init__(self, specs: Sequence[SliceSpec]) -> None:
        texts = [spec.text for spec in specs if spec.text is not None]
        self._texts = PatternSet(texts)
        indexes = iter(range(len(texts)))
        self._slices = [_Slice(spec, next(indexes) if spec.text is not None else None) for spec in specs]

    def slices_of(self, request: MirroredRequest) -> tuple[str, ...]:
        """Names of the slices that a request is in: `all`, then the configured ones in their order."""
        return (ALL, *self._named(_Subject(request.path, request.key, request.headers, request.body, self._texts)))

    def slices_of_request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> frozenset[str]:
        """Names of the configured slices that a request is in before it has a sampling key, for the proxy's quotas.

        A slice with a condition on the key is not among them; the configuration refuses quotas for those.
        """
        return frozenset(self._named(_Subject(path, None, headers, body, self._texts)))

    def _named(self, subject: _Subject) -> Iterator[str]:
        return (slice.name for slice in self._slices if slice.holds(subject))


def countable(slices: Iterable[str], u: float, sample: float, quotas: Mapping[str, float]) -> tuple[str, ...]:
    """The slices in which a pair counts: where u is under the slice's rate, and for `all` under the base rate.

    Args:
        u: Hash of the sampling key, in [0, 1).
        sample: Base sampling rate.
        quotas: Higher rates by slice; a lower one counts as the base.
    """
    return tuple(name for name in slices if u < (sample if name == ALL else max(sample, quotas.get(name, 0.0))))


class _Subject:
    """A request, each part of it read at most once and only when a slice asks."""

    def __init__(self, path: str, key: str | None, headers: Mapping[str, str], body: bytes, texts: PatternSet) -> None:
        self.path = path
        self.key = key
        self.headers = headers
        self._patterns = texts
        self._document: Any = _UNREAD
        self._body = body
        self._texts: frozenset[int] | None = None

    @property
    def document(self) -> Any:
        if self._document is _UNREAD:
            try:
                self._body = inflated(self._body, self.headers)
            except Unreadable:
                self._document = NOT_JSON
            else:
                self._document = json_of(self._body)
        return self._document

    @property
    def texts(self) -> frozenset[int]:
        if self._texts is None:
            document = self.document
            # UTF-16 takes up to two bytes where UTF-8 takes one.
            text = decoded(self._body[: 2 * SUBJECT_BYTES_MAX]) if document is NOT_JSON else strings_of(document)
            self._texts = self._patterns.found_in(_utf8(text))
        return self._texts


class _Slice:
    def __init__(self, spec: SliceSpec, text_index: int | None) -> None:
        self.name = spec.name
        self._text_index = text_index
        self._path = compiled(spec.path) if spec.path is not None else None
        self._key = compiled(spec.key) if spec.key is not None else None
        self._headers = [(name.lower(), compiled(pattern)) for name, pattern in spec.headers.items()]
        self._json = [
            (JsonPath(path), tuple(value) if isinstance(value, list | tuple) else (value,))
            for path, value in spec.json.items()
        ]

    def holds(self, subject: _Subject) -> bool:
        if self._path is not None and not _matches(self._path, subject.path):
            return False
        if self._key is not None and (subject.key is None or not _matches(self._key, subject.key)):
            return False
        for name, pattern in self._headers:
            value = subject.headers.get(name)
            if value is None or not _matches(pattern, value):
                return False
        if self._json and not self._holds_json(subject.document):
            return False
        return self._text_index is None or self._text_index in subject.texts

    def _holds_json(self, document: Any) -> bool:
        if document is NOT_JSON:
            return False
        return all(
            any(same_value(value, expected) for value in path.values(document) for expected in allowed)
            for path, allowed in self._json
        )


def _matches(pattern: Any, text: str) -> bool:
    return pattern.search(_utf8(text)[:SUBJECT_BYTES_MAX]) is not None


def _utf8(text: str) -> bytes:
    return text[:SUBJECT_BYTES_MAX].encode("utf-8", "replace")
