"""Schemas, their encoding, their examples, and their compatibility with every version in git."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import avro.schema
import fastavro
import pytest
import yaml
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from fastavro.schema import load_schema, parse_schema

from shadow.adapters.avro import decode, encode, fingerprint_of
from shadow.adapters.kafka_client import BATCH_ROOM_BYTES, RECORD_BYTES_MAX
from shadow.errors import InvalidRecord
from shadow.records.answers import Tick
from tests.schema_examples import NAMES, RECORDS, REFUSED, SCHEMAS, VALID, example_bytes, example_id, schema_of

ROOT = SCHEMAS.parent
DEPTH_MAX = 16


@pytest.mark.parametrize("path", VALID, ids=example_id)
def test_valid_examples_are_read_and_written_back_to_the_same_bytes(path: Path) -> None:
    """
    What another writer of the schema made is the record, and ours writes the same bytes.
    """
    value = example_bytes(path)
    record = decode(value)
    assert type(record).__name__ == path.parent.name
    assert value == encode(record)


@pytest.mark.parametrize("path", REFUSED, ids=example_id)
def test_refused_examples_are_refused(path: Path) -> None:
    """
    The schema or the checks behind it refuse what no writer of ours makes.
    """
    try:
        value = example_bytes(path)
    except (ValueError, TypeError, OverflowError):
        return
    with pytest.raises(InvalidRecord):
        decode(value)


@pytest.mark.parametrize("name", NAMES)
def test_every_record_has_examples_of_both_kinds(name: str) -> None:
    """
    A schema without an example that is refused shows nothing of its limits.
    """
    assert {"valid", "refused"} == {path.stem.split("-")[0] for path in (SCHEMAS / "examples" / name).glob("*.json")}


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_those_of_the_record_in_order(name: str) -> None:
    """
    A field that stands in one place only would be lost or refused.
    """
    schema = schema_of(name)
    assert [field.name for field in fields(RECORDS[name])] == [field["name"] for field in schema["fields"]]


def nodes(schema: Any, depth: int = 1, above: tuple[str, ...] = ()) -> Iterator[tuple[Any, int, tuple[str, ...]]]:
    """Every part of a schema with its depth and the records around it."""
    yield schema, depth, above
    if isinstance(schema, list):
        for part in schema:
            yield from nodes(part, depth, above)
    elif isinstance(schema, dict):
        if schema["type"] == "record":
            for field in schema["fields"]:
                yield from nodes(field["type"], depth + 1, (*above, schema["name"]))
        elif schema["type"] in ("array", "map"):
            yield from nodes(schema["items" if schema["type"] == "array" else "values"], depth + 1, above)


def faults(schema: Any) -> list[str]:
    """What a schema must not have: each of these lets a few bytes crash or fill the process that reads them."""
    found = []
    for part, depth, above in nodes(schema):
        if depth > DEPTH_MAX:
            found.append(f"nested {depth} deep")
            break
        name = part if isinstance(part, str) else part.get("name") if isinstance(part, dict) else None
        if name in above:
            found.append(f"{name} contains itself")
        if isinstance(part, dict) and part["type"] in ("array", "map"):
            items = part["items" if part["type"] == "array" else "values"]
            if part["type"] == "array" and bytes_min(items) == 0:
                found.append("items of zero bytes")
            if part["type"] == "map" and items == "null":
                found.append("values of zero bytes")
        if isinstance(part, dict) and part["type"] == "fixed" and part["size"] == 0:
            found.append("a fixed of zero bytes")
    return found


def bytes_min(schema: Any) -> int:
    """The fewest bytes of a datum; a union and a size take one."""
    if schema == "null":
        return 0
    if isinstance(schema, dict) and schema["type"] == "record":
        return sum(bytes_min(field["type"]) for field in schema["fields"])
    if isinstance(schema, dict) and schema["type"] == "fixed":
        return int(schema["size"])
    return 1


def deep(levels: int) -> Any:
    return "long" if levels == 0 else {"type": "array", "items": deep(levels - 1)}


@pytest.mark.parametrize("name", NAMES)
def test_schemas_cannot_be_turned_against_their_reader(name: str) -> None:
    """
    No schema is recursive, has items of zero bytes, or is nested too deep (inputs 87, 88 and 90).
    """
    assert faults(schema_of(name)) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": "null"},
        {"type": "map", "values": "null"},
        {"type": "array", "items": {"type": "record", "name": "E", "fields": []}},
        {"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]},
        deep(20),
    ],
    ids=["88-array-of-null", "88-map-of-null", "88-array-of-empty-records", "87-recursive", "90-nested-too-deep"],
)
def test_the_linter_finds_each_kind_of_fault(schema: Any) -> None:
    """
    A check that cannot fail shows nothing.
    """
    assert faults(parse_schema(schema)) != []


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_documented(name: str) -> None:
    """
    Whoever reads a topic has only the schema.
    """
    for part, _, _ in nodes(schema_of(name)):
        if isinstance(part, dict) and part["type"] == "record":
            assert part["doc"]
            assert [field["name"] for field in part["fields"] if not field.get("doc")] == []


def test_fingerprint_is_that_of_the_specification() -> None:
    """
    The CRC-64-AVRO fingerprint of "int" is the reference value of Avro's own tests, little endian on the wire.
    """
    assert (0x7275D51A3F395C8F).to_bytes(8, "little") == fingerprint_of("int")


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_is_that_of_another_implementation(name: str) -> None:
    """
    Apache's library finds the same fingerprint of the same file.
    """
    theirs = avro.schema.parse(json.dumps(plain(schema_of(name))))
    assert theirs.fingerprint("CRC-64-AVRO") == fingerprint_of(schema_of(name))


# Compatibility with what was ever committed.


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def is_checkout() -> bool:
    try:
        return git("rev-parse", "--is-inside-work-tree").strip() == "true"
    except (OSError, subprocess.CalledProcessError):
        return False


def plain(schema: Any) -> Any:
    """A parsed schema without the marks of its parser."""
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if not key.startswith("__")}
    return [plain(part) for part in schema] if isinstance(schema, list) else schema


def schema_at(commit: str, name: str, directory: Path) -> Any:
    """A schema as it was in a commit, with the ones that it names."""
    for file in git("ls-tree", "--name-only", commit, "schemas/").split():
        if file.endswith(".avsc"):
            (directory / Path(file).name).write_text(git("show", f"{commit}:{file}"))
    return load_schema(str(directory / f"shadow.{name}.avsc"))


def is_readable(reader: Any, writer: Any) -> bool:
    """Whether what `writer` wrote can be read with `reader`."""
    ours, theirs = (avro.schema.parse(json.dumps(plain(schema))) for schema in (reader, writer))
    result = ReaderWriterCompatibilityChecker().get_compatibility(ours, theirs)
    return bool(result.compatibility is SchemaCompatibilityType.compatible)


@pytest.mark.parametrize("name", NAMES)
def test_every_older_version_in_git_is_readable(name: str, tmp_path: Path) -> None:
    """
    BACKWARD_TRANSITIVE: the current schema reads what any committed version of it wrote.
    """
    if not is_checkout():
        pytest.skip("not a git checkout, so there are no older versions to compare with")
    # What a schema names may change without it, so every change below schemas/ counts.
    commits = git("log", "--format=%H", "--", "schemas/*.avsc").split()
    seen = set()
    for number, commit in enumerate(commits):
        if f"schemas/shadow.{name}.avsc" not in git("ls-tree", "--name-only", commit, "schemas/").split():
            continue
        directory = tmp_path / str(number)
        directory.mkdir()
        older = schema_at(commit, name, directory)
        if fingerprint_of(older) not in seen:
            seen.add(fingerprint_of(older))
            assert is_readable(schema_of(name), older), f"the {name} of commit {commit[:12]} cannot be read any more"


def test_every_released_version_can_still_be_decoded(tmp_path: Path) -> None:
    """
    A log outlives an upgrade only if the released schema is kept in schemas/older.
    """
    if not is_checkout():
        pytest.skip("not a git checkout, so there are no releases to compare with")
    kept = {fingerprint_of(load_schema(str(path))) for path in SCHEMAS.glob("**/shadow.*.avsc")}
    for tag in git("tag", "--list", "v*").split():
        for file in git("ls-tree", "--name-only", tag, "schemas/").split():
            if file.endswith(".avsc"):
                name = Path(file).name.split(".")[1]
                directory = tmp_path / tag / name
                directory.mkdir(parents=True)
                assert fingerprint_of(schema_at(tag, name, directory)) in kept, (
                    f"{name} of {tag} is not in schemas/older"
                )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "extra", "type": "string", "default": ""}, True),
        ({"name": "extra", "type": ["null", "long"], "default": None}, True),
        ({"name": "extra", "type": "string"}, False),
    ],
    ids=["with-default", "nullable", "without-default"],
)
def test_the_checker_tells_a_compatible_addition_from_another(change: Any, expected: bool) -> None:
    """
    A new field needs a default.
    """
    older = plain(schema_of("Tick"))
    assert expected == is_readable({**older, "fields": [*older["fields"], change]}, older)


def test_the_checker_catches_a_changed_type() -> None:
    """
    A field that changes its type cannot be read any more.
    """
    older = plain(schema_of("Tick"))
    changed = [{**f, "type": "long", "default": 0} if f["name"] == "run" else f for f in older["fields"]]
    assert not is_readable({**older, "fields": changed}, older)


def test_a_schema_of_an_older_release_is_decoded_into_the_present_record() -> None:
    """
    Reading with both schemas fills in what the older one lacked.
    """
    older = plain(schema_of("Tick"))
    older["fields"] = older["fields"][:2]
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, parse_schema(older), {"run": "r", "tile": 7})
    buffer.seek(0)
    row: Any = fastavro.schemaless_reader(buffer, parse_schema(older), schema_of("Tick"))
    assert Tick("r", 7) == Tick(**row)


# Topics.


def topics() -> dict[str, Any]:
    loaded = yaml.safe_load((SCHEMAS / "topics.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_every_record_stands_in_exactly_one_topic() -> None:
    """
    No schema without a topic, no topic with an unknown record.
    """
    assert sorted(record for topic in topics().values() for record in topic["records"]) == NAMES


def test_topics_keep_what_a_verdict_rests_on() -> None:
    """
    Requests and answers have the log's time, equal partitions and no bound on bytes; decisions never expire.
    """
    found = topics()
    requests_topic, answers_topic = found["shadow-requests"], found["shadow-answers"]
    assert requests_topic["partitions"] == answers_topic["partitions"]
    for topic in (requests_topic, answers_topic):
        assert topic["config"]["message.timestamp.type"] == "LogAppendTime"
        assert topic["config"]["retention.bytes"] == "-1"
        assert int(topic["config"]["retention.ms"]) >= 8 * 86_400_000
    decisions = found["shadow-decisions"]
    assert (
        decisions["partitions"],
        decisions["config"]["cleanup.policy"],
        decisions["config"]["retention.ms"],
    ) == (1, "compact", "-1")


def test_topics_take_the_largest_record_that_a_producer_sends() -> None:
    """
    The broker takes more than the producer sends, which is four times body_max and more: it counts the batch too.
    """
    for name, topic in topics().items():
        assert str(RECORD_BYTES_MAX + BATCH_ROOM_BYTES) == topic["config"]["max.message.bytes"], name
        assert all(isinstance(value, str) for value in topic["config"].values()), name
