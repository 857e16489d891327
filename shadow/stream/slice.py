"""Say in which slices a request is, and in which of them its pair counts. Pure.

All patterns on a request's text are searched in one pass, whatever their number. Whatever a request contains,
nothing here raises: a body that is not sound JSON has no JSON fields, and its text is the body itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from shadow.bodies import NOT_JSON, Unreadable, decoded, inflated, json_of, strings_of
from shadow.jsonpath import JsonPath, same_value
from shadow.patterns import SUBJECT_BYTES_MAX, PatternSet, compiled
from shadow.records.requests import MirroredRequest
from shadow.records.slices import ALL, SliceSpec

T = TypeVar("T")

REMEMBERED_MAX: Final = 4096
"""Sets of conditions whose slices are remembered."""


class Slicer:
    """The slices of a configuration, compiled.

    Each condition has a bit, and is looked at once whatever the number of slices that have it; a slice holds where
    all its bits are set. What must be parsed is parsed only if a slice can still hold that needs it.

    Args:
        specs: Slices in the order of the configuration.

    Raises:
        ValueError: If a pattern or a JSON path cannot be compiled; the text says why.
    """

    def __init__(self, specs: Sequence[SliceSpec]) -> None:
        texts = [spec.text for spec in specs if spec.text is not None]
        self._texts = PatternSet(texts)
        self._text_bits: list[int] = []
        self._plain: list[_Plain] = []
        self._fields: dict[str, _Field] = {}
        self._bits = 0
        self._slices = [(spec.name, self._needs(spec)) for spec in specs]
        self._names: dict[int, tuple[str, ...]] = {}
        self._more: dict[int, tuple[tuple[_Field, ...], bool]] = {}

    def _needs(self, spec: SliceSpec) -> int:
        """Compile the conditions of a slice; returns the bits that it needs."""
        before = self._bits
        for part, pattern in (("path", spec.path), ("key", spec.key)):
            if pattern is not None:
                self._plain.append(_Plain(part, compiled(pattern), self._next_bit()))
        for name, pattern in spec.headers.items():
            self._plain.append(_Plain(name.lower(), compiled(pattern), self._next_bit(), is_header=True))
        for path, value in spec.json.items():
            field = self._fields.get(path)
            if field is None:
                field = self._fields[path] = _Field(JsonPath(path))
            field.expect(tuple(value) if isinstance(value, list | tuple) else (value,), self._next_bit())
        if spec.text is not None:
            self._text_bits.append(self._next_bit())
        return (1 << self._bits) - (1 << before)

    def _next_bit(self) -> int:
        self._bits += 1
        return 1 << (self._bits - 1)

    def slices_of(self, request: MirroredRequest) -> tuple[str, ...]:
        """Names of the slices that a request is in: `all`, then the configured ones in their order."""
        return self._found(request.path, request.key, request.headers, request.body)

    def slices_of_request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> frozenset[str]:
        """Names of the configured slices that a request is in before it has a sampling key, for the proxy's quotas.

        A slice with a condition on the key is not among them; the configuration refuses quotas for those.
        """
        return frozenset(self._found(path, None, headers, body)[1:])

    def _found(self, path: str, key: str | None, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
        held = 0
        for condition in self._plain:
            if condition.holds(path, key, headers):
                held |= condition.bit
        more = self._more.get(held)
        if more is None:
            more = self._remember(self._more, held, self._needed_beyond(held))
        fields, has_text = more
        if fields or has_text:
            body, document = _read(body, headers)
            if document is not NOT_JSON:
                for field in fields:
                    held |= field.bits_of(document)
            if has_text:
                # UTF-16 takes up to two bytes where UTF-8 takes one.
                text = decoded(body[: 2 * SUBJECT_BYTES_MAX]) if document is NOT_JSON else strings_of(document)
                for index in self._texts.found_in(_utf8(text)):
                    held |= self._text_bits[index]
        names = self._names.get(held)
        if names is None:
            found = (name for name, needs in self._slices if held & needs == needs)
            names = self._remember(self._names, held, (ALL, *found))
        return names

    def _needed_beyond(self, held: int) -> tuple[tuple[_Field, ...], bool]:
        """The fields that a slice may still need, and whether one may need the text, with these plain bits set."""
        plain = sum(condition.bit for condition in self._plain)
        open_bits = 0
        for _, needs in self._slices:
            if needs & plain & ~held == 0:
                open_bits |= needs
        fields = tuple(field for field in self._fields.values() if field.bits & open_bits)
        return fields, any(bit & open_bits for bit in self._text_bits)

    @staticmethod
    def _remember(known: dict[int, T], held: int, value: T) -> T:
        if len(known) >= REMEMBERED_MAX:
            known.clear()
        known[held] = value
        return value


def countable(slices: Iterable[str], u: float, sample: float, quotas: Mapping[str, float]) -> tuple[str, ...]:
    """The slices in which a pair counts: where u is under the slice's rate, and for `all` under the base rate.

    Args:
        u: Hash of the sampling key, in [0, 1).
        sample: Base sampling rate.
        quotas: Higher rates by slice; a lower one counts as the base.
    """
    if u < sample:
        return tuple(slices)
    return tuple(name for name in slices if u < (sample if name == ALL else max(sample, quotas.get(name, 0.0))))


class _Plain:
    """A pattern on the path, the key or a header."""

    def __init__(self, part: str, pattern: Any, bit: int, *, is_header: bool = False) -> None:
        self._part = part
        self._pattern = pattern
        self._is_header = is_header
        self.bit = bit

    def holds(self, path: str, key: str | None, headers: Mapping[str, str]) -> bool:
        value = headers.get(self._part) if self._is_header else path if self._part == "path" else key
        return value is not None and self._pattern.search(_utf8(value)) is not None


class _Field:
    """A JSON path, and the bits of the conditions on what stands there, by expected value."""

    def __init__(self, path: JsonPath) -> None:
        self._path = path
        self._by_bool: dict[bool, int] = {}
        self._by_value: dict[Any, int] = {}
        self._others: list[tuple[Any, int]] = []
        self.bits = 0

    def expect(self, allowed: Iterable[Any], bit: int) -> None:
        self.bits |= bit
        for value in allowed:
            if isinstance(value, bool):
                self._by_bool[value] = self._by_bool.get(value, 0) | bit
            elif value is None or isinstance(value, str | int | float):
                self._by_value[value] = self._by_value.get(value, 0) | bit
            else:
                self._others.append((value, bit))

    def bits_of(self, document: Any) -> int:
        bits = 0
        for found in self._path.values(document):
            if found is True or found is False:
                bits |= self._by_bool.get(found, 0)
            elif type(found) is dict or type(found) is list:
                for value, bit in self._others:
                    if same_value(found, value):
                        bits |= bit
            else:
                bits |= self._by_value.get(found, 0)
        return bits


def _read(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, Any]:
    """The body as far as it could be inflated, and its document."""
    try:
        body = inflated(body, headers)
    except Unreadable:
        return body, NOT_JSON
    return body, json_of(body)


def _utf8(text: str) -> bytes:
    """The first 64 KiB of a text as UTF-8."""
    return text[:SUBJECT_BYTES_MAX].encode("utf-8", "replace")[:SUBJECT_BYTES_MAX]
