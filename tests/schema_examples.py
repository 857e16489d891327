"""Read the schemas and their examples as a program that is not ours would."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import load_schema

from shadow.adapters.avro import MARKER, fingerprint_of
from shadow.adapters.data import data_dir
from shadow.adapters.shapes import SHAPES

SCHEMAS = data_dir("schemas")
RECORDS = {shape.record.__name__: shape.record for shape in SHAPES}
NAMES = sorted(RECORDS)


def schema_of(name: str) -> Any:
    return load_schema(str(SCHEMAS / f"shadow.{name}.avsc"))


def wire(name: str, row: Any) -> bytes:
    """Encode a row by its schema alone, as a writer that is not ours would."""
    schema = schema_of(name)
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema, row, strict=True, disable_tuple_notation=True)
    return MARKER + fingerprint_of(schema) + buffer.getvalue()


def row_from_json(schema: Any, value: Any, named: dict[str, Any] | None = None) -> Any:
    """A row of an example: texts of bytes fields become bytes."""
    named = {} if named is None else named
    if isinstance(schema, list):
        return None if value is None else row_from_json(next(s for s in schema if s != "null"), value, named)
    if isinstance(schema, str) and schema in named:
        schema = named[schema]
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        named[schema["name"]] = schema
        types = {field["name"]: field["type"] for field in schema["fields"]}
        return {name: row_from_json(types[name], part, named) for name, part in value.items()}
    if kind == "map":
        return {key: row_from_json(schema["values"], part, named) for key, part in value.items()}
    if kind == "array" and isinstance(value, list):
        return [row_from_json(schema["items"], part, named) for part in value]
    return value.encode("latin-1") if kind == "bytes" else value


def example_bytes(path: Path) -> bytes:
    name = path.parent.name
    return wire(name, row_from_json(schema_of(name), json.loads(path.read_text())))


VALID = sorted((SCHEMAS / "examples").glob("*/valid-*.json"))
REFUSED = sorted((SCHEMAS / "examples").glob("*/refused-*.json"))


def example_id(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"
