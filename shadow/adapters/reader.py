"""Compile an Avro schema into a reader that makes records directly, in half the time of the general reader.

A comparator reads one answer for each pair, with the request and the live answer in it: some 50 fields. The general
reader makes nested dicts of them, from which the records are made in a second step. Here the schema becomes one
straight function, as `dataclasses` does it with an `__init__`. It knows how usual values look (short lengths, one
block for each map) and raises for every other one; then the general reader decides, so that both accept and refuse
the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from shadow.records.made import maker


class Unusual(ValueError):
    """The value must go through the general reader."""


REFUSED: Final = (Unusual, IndexError, UnicodeError, struct.error)
"""What a compiled reader raises where the general one must decide."""

_DOUBLE: Final = struct.Struct("<d")
_FROM_ZIGZAG: Final = [(number >> 1) ^ -(number & 1) for number in range(1 << 14)]
"""What one and two bytes say: most lengths and counts, without a call."""


def _long(value: bytes, at: int) -> tuple[int, int]:
    """An integer and the position behind it."""
    second = value[at + 1]
    number = value[at] & 0x7F | (second & 0x7F) << 7
    at += 2
    shift, byte = 14, second
    while byte > 0x7F:
        byte = value[at]
        if shift == 63 and byte > 1:
            raise Unusual
        number |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return (number >> 1) ^ -(number & 1), at


def reader_of(
    schema: Any, records: Mapping[str, type[Any]], is_sound: Callable[[Any], bool]
) -> Callable[[bytes, int], Any]:
    """A function of a value and the position of its Avro binary, which makes the record.

    Args:
        schema: The parsed schema of a record; its fields are in the order of the record's.
        records: Record classes by the schemas' names.
        is_sound: Whether a record is one that a writer of ours makes.

    Raises:
        KeyError: If the schema contains a type that the compiler does not know.
    """
    compiler = _Compiler(records)
    lines = list(compiler.read(schema, "result", "    "))
    source = "\n".join(
        [
            "def read(value, at):",
            "    size = len(value)",
            *lines,
            "    if at != size or not is_sound(result):",
            "        raise Unusual",
            "    return result",
        ]
    )
    known = {
        "Unusual": Unusual,
        "from_zigzag": _FROM_ZIGZAG,
        "long": _long,
        "double": _DOUBLE.unpack_from,
        "is_sound": is_sound,
        **compiler.makers,
    }
    # The text holds names of our own schemas and nothing of any value.
    exec(source, known)
    read: Callable[[bytes, int], Any] = known["read"]
    return read


class _Compiler:
    """Writes the lines that read a type into a variable, and move `at` behind it."""

    def __init__(self, records: Mapping[str, type[Any]]) -> None:
        self._records = records
        self._variables = 0
        self.makers: dict[str, Any] = {}

    def read(self, schema: Any, target: str, indent: str) -> Iterator[str]:
        if isinstance(schema, list):
            yield from self._union(schema, target, indent)
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        lines = {
            "record": self._record,
            "map": self._map,
            "int": self._integer,
            "long": self._integer,
            "string": self._sized,
            "bytes": self._sized,
            "double": self._double,
            "boolean": self._boolean,
        }[kind]
        for line in lines(schema, target):
            yield indent + line

    def _record(self, schema: Any, target: str) -> Iterator[str]:
        name = schema["name"].rpartition(".")[2]
        self.makers[f"make_{name}"] = maker(self._records[name])
        variables = []
        for field in schema["fields"]:
            variables.append(self._variable())
            yield from self.read(field["type"], variables[-1], "")
        yield f"{target} = make_{name}({', '.join(variables)})"

    def _map(self, schema: Any, target: str) -> Iterator[str]:
        count, key, value = self._variable(), self._variable(), self._variable()
        yield f"{target} = {{}}"
        yield f"{count} = value[at]"
        yield "at += 1"
        yield f"while {count}:"
        yield f"    if {count} & 129:"
        yield "        raise Unusual"
        yield f"    for _ in range({count} >> 1):"
        yield from self.read("string", key, "        ")
        yield from self.read(schema["values"], value, "        ")
        yield f"        {target}[{key}] = {value}"
        yield f"    {count} = value[at]"
        yield "    at += 1"

    def _union(self, schema: list[Any], target: str, indent: str) -> Iterator[str]:
        null, other = schema
        if null != "null":
            raise KeyError(null)
        branch = self._variable()
        yield f"{indent}{branch} = value[at]"
        yield f"{indent}at += 1"
        yield f"{indent}if {branch} == 2:"
        yield from self.read(other, target, indent + "    ")
        yield f"{indent}elif {branch} == 0:"
        yield f"{indent}    {target} = None"
        yield f"{indent}else:"
        yield f"{indent}    raise Unusual"

    def _integer(self, _: Any, target: str) -> Iterator[str]:
        yield f"{target} = value[at]"
        yield f"if {target} < 128:"
        yield f"    {target} = from_zigzag[{target}]"
        yield "    at += 1"
        yield "elif value[at + 1] < 128:"
        yield f"    {target} = from_zigzag[{target} & 127 | value[at + 1] << 7]"
        yield "    at += 2"
        yield "else:"
        yield f"    {target}, at = long(value, at)"

    def _sized(self, schema: Any, target: str) -> Iterator[str]:
        yield from self._integer(schema, target)
        yield f"{target} += at"
        yield f"if not at <= {target} <= size:"
        yield "    raise Unusual"
        read = ".decode()" if schema == "string" else ""
        yield f"{target}, at = value[at:{target}]{read}, {target}"

    def _double(self, _: Any, target: str) -> Iterator[str]:
        yield f"({target},) = double(value, at)"
        yield "at += 8"

    def _boolean(self, _: Any, target: str) -> Iterator[str]:
        yield f"{target} = value[at]"
        yield f"if {target} > 1:"
        yield "    raise Unusual"
        yield f"{target} = {target} == 1"
        yield "at += 1"

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"
