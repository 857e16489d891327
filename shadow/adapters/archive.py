"""A run as files, so that its evidence outlives Kafka's retention: what replay needs, and what people look at.

    run.json            how the run began, its decisions, what people ordered, its configuration, versions, and rows and
                        SHA-256 of each file
    answers.parquet     the raw records of the run's range: partition, offset, time_us, key, headers, value
    requests.parquet    the same of the requests topic
    pairs.parquet       one row a graded pair, for analysis

A row group holds records of one partition with ascending offsets, so a partition can be read on its own, and one
group at a time is in memory. Parquet comes with pyarrow (the extra `archive`), which is imported when it is needed.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from shadow.errors import BrokenEvidence, Usage
from shadow.records.decisions import Command, Decision, Obeyed, Routing, Started
from shadow.records.log import LogRecord

FORMAT: Final = 1
MANIFEST: Final = "run.json"
ANSWERS: Final = "answers"
REQUESTS: Final = "requests"
PAIRS: Final = "pairs"
FILES: Final = (ANSWERS, REQUESTS, PAIRS)
PART: Final = ".part"
"""Ending of a file that is not whole yet."""
GROUPS_KEPT: Final = 4
"""Row groups whose records stay in memory for reading single ones."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What run.json says.

    Args:
        configuration: The run's configuration without addresses of services and without secrets.
        topics: Name of each archived topic in the log, by kind.
        ranges: First offset and the one behind the last, by kind, then partition.
        replayed: What a replay of the archive gave when it was written.
        versions: Of Shadow and what wrote the files.
        files: Rows, bytes and SHA-256 of each file, by kind.
        commands: What people ordered.
        obeyed: From which tile it held.
    """

    started: Started
    decisions: tuple[Decision, ...]
    configuration: str
    topics: Mapping[str, str]
    ranges: Mapping[str, Sequence[tuple[int, int]]]
    replayed: Mapping[str, Any]
    versions: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]
    commands: tuple[Command, ...] = ()
    obeyed: tuple[Obeyed, ...] = ()


def parquet() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        Usage: If pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Usage("archives need pyarrow, which is not installed: pip install 'shadow-canary[archive]'") from error
    return pyarrow, pyarrow.parquet


def file_of(folder: Path, kind: str) -> Path:
    """Where a kind of records lies."""
    return folder / f"{kind}.parquet"


def part_of(path: Path) -> Path:
    """Where a file is written before it is whole."""
    return path.with_name(path.name + PART)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """run.json, with the SHA-256 of its own content."""
    content = {"format": FORMAT, **asdict(manifest)}
    return json.dumps({"sha256": _digest(content), **content}, indent=1, sort_keys=True, allow_nan=False).encode()


def read_manifest(folder: Path) -> Manifest:
    """Read run.json.

    Raises:
        Usage: If the folder holds no archive that this version reads.
        BrokenEvidence: If run.json is not what was written.
    """
    path = folder / MANIFEST
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        raise Usage(f"{folder} holds no archive: {path.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BrokenEvidence(f"{path} is not what was archived: it is no JSON ({error})") from error
    if not isinstance(tree, dict) or "sha256" not in tree:
        raise BrokenEvidence(f"{path} is not what was archived: it has no SHA-256 of itself")
    if tree.get("format") != FORMAT:
        raise Usage(f"{path} has format {tree.get('format')!r}; this version reads {FORMAT}")
    said = tree.pop("sha256")
    found = _digest(tree)
    if said != found:
        raise BrokenEvidence(f"{path} is not what was archived: its content has SHA-256 {found}, and it says {said}")
    try:
        return _manifest(tree)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Usage(f"{path} was written by another version of Shadow and cannot be read ({error!r})") from error


def _manifest(tree: Mapping[str, Any]) -> Manifest:
    started, decisions = tree["started"], tree["decisions"]
    return Manifest(
        started=Started(**{**started, **_tuples(started, "answers_from", "requests_from")}),
        decisions=tuple(_decision(each) for each in decisions),
        configuration=tree["configuration"],
        topics=tree["topics"],
        ranges={kind: [(first, end) for first, end in bounds] for kind, bounds in tree["ranges"].items()},
        replayed=tree["replayed"],
        versions=tree["versions"],
        files=tree["files"],
        commands=tuple(Command(**each) for each in tree.get("commands", ())),
        obeyed=tuple(Obeyed(**each) for each in tree.get("obeyed", ())),
    )


def _decision(tree: Mapping[str, Any]) -> Decision:
    routing = tree.get("routing")
    return Decision(
        **{
            **tree,
            **_tuples(tree, "positions", "culprits"),
            "routing": None if routing is None else Routing(**routing),
        }
    )


def _tuples(tree: Mapping[str, Any], *names: str) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(tree[name]) for name in names}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_files(folder: Path, manifest: Manifest) -> None:
    """Check every file against run.json.

    Raises:
        BrokenEvidence: If one is missing, or was changed since.
    """
    for kind, facts in manifest.files.items():
        path = file_of(folder, kind)
        try:
            found = sha256_of(path)
        except OSError as error:
            raise BrokenEvidence(f"{path} is missing from the archive ({error.strerror})") from error
        if found != facts["sha256"]:
            said = facts["sha256"]
            raise BrokenEvidence(f"{path} is not what was archived: its SHA-256 is {found}, {MANIFEST} says {said}")


def open_archive(folder: Path) -> tuple[Manifest, Archive]:
    """An archive whose files are what was archived.

    Raises:
        Usage: If the folder holds no archive, or pyarrow is not installed.
        BrokenEvidence: If a file is not what was archived.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return manifest, Archive(folder, manifest.topics, manifest.ranges)


@dataclass(frozen=True, slots=True)
class _Groups:
    """The row groups of one partition, ascending: number in the file, first and last offset."""

    numbers: list[int]
    first: list[int]
    last: list[int]


class Archive:
    """An archived run as a source of records: the part of a log that a replay needs.

    Args:
        topics: Name of each topic in the log, by kind.
        ranges: Offsets of each partition, by kind, as in `Manifest`.
        paths: File of each kind; where `file_of` says by default.
    """

    def __init__(
        self,
        folder: Path,
        topics: Mapping[str, str],
        ranges: Mapping[str, Sequence[tuple[int, int]]],
        paths: Mapping[str, Path] | None = None,
    ) -> None:
        self._paths = paths or {kind: file_of(folder, kind) for kind in topics}
        self._ranges = ranges
        _, self._parquet = parquet()
        self._kind_by_topic = {name: kind for kind, name in topics.items()}

    def reader(self) -> ArchiveReader:
        """Reads on from given offsets."""
        return ArchiveReader(self)

    def admin(self) -> ArchiveRecords:
        """Ends and single records."""
        return ArchiveRecords(self)

    def open(self, topic: str) -> _Topic:
        """One topic's file."""
        kind = self._kind_by_topic[topic]
        return _Topic(self._parquet, self._paths[kind], topic, self._ranges[kind])


class _Topic:
    """The records of one topic in their file."""

    def __init__(self, parquet: Any, path: Path, topic: str, ranges: Sequence[tuple[int, int]]) -> None:
        self.name = topic
        self.ranges = ranges
        self._file = parquet.ParquetFile(path)
        self._groups: dict[int, _Groups] = {}
        self._kept: dict[int, list[LogRecord]] = {}
        names = self._file.schema_arrow.names
        for number in range(self._file.metadata.num_row_groups):
            group = self._file.metadata.row_group(number)
            partition = group.column(names.index("partition")).statistics.min
            offsets = group.column(names.index("offset")).statistics
            groups = self._groups.setdefault(partition, _Groups([], [], []))
            groups.numbers.append(number)
            groups.first.append(offsets.min)
            groups.last.append(offsets.max)

    def group_from(self, partition: int, offset: int) -> list[LogRecord]:
        """The records of the row group that holds an offset, or of the next one behind it; empty at the end."""
        groups = self._groups.get(partition)
        if groups is None:
            return []
        index = bisect_left(groups.last, offset)
        return self._records(groups.numbers[index]) if index < len(groups.numbers) else []

    def check(self, partition: int, offset: int) -> None:
        """Refuse an offset that is not in the archive."""
        first, end = self.ranges[partition] if 0 <= partition < len(self.ranges) else (0, 0)
        if not first <= offset <= end:
            raise BrokenEvidence(
                f"{self.name}/{partition}: offset {offset} is not in the archive, which has {first} to {end - 1}"
            )

    def _records(self, number: int) -> list[LogRecord]:
        if number not in self._kept:
            while len(self._kept) >= GROUPS_KEPT:
                del self._kept[next(iter(self._kept))]
            columns = self._file.read_row_group(number).to_pydict()
            self._kept[number] = [
                LogRecord(self.name, partition, offset, time_us, key, value, dict(headers or ()))
                for partition, offset, time_us, key, headers, value in zip(
                    *(columns[name] for name in ("partition", "offset", "time_us", "key", "headers", "value")),
                    strict=True,
                )
            ]
        return self._kept[number]

    def close(self) -> None:
        self._file.close()


class _Open:
    """The topics' files that a handle has opened."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._topics: dict[str, _Topic] = {}

    def close(self) -> None:
        """Close the files."""
        for topic in self._topics.values():
            topic.close()
        self._topics = {}

    def _topic(self, name: str) -> _Topic:
        if name not in self._topics:
            self._topics[name] = self._archive.open(name)
        return self._topics[name]


class ArchiveReader(_Open):
    """Implements `shadow.ports.LogReader` on files; partitions take turns, one row group each."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        self._positions: dict[tuple[str, int], int] = {}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read exactly these (topic, partition) from these offsets on."""
        self._positions = dict(positions)

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        """The next records, in order per partition; empty at the end, without waiting.

        Raises:
            BrokenEvidence: If an assigned offset is not in the archive.
        """
        for place in list(self._positions):
            topic, partition = place
            position = self._positions[place]
            file = self._topic(topic)
            file.check(partition, position)
            group = file.group_from(partition, position)
            begin = bisect_left(group, position, key=lambda record: record.offset)
            records = group[begin : begin + max_records]
            if begin + len(records) >= len(group):
                self._positions[place] = self._positions.pop(place)  # the next one's turn
            if records:
                self._positions[place] = records[-1].offset + 1
                return records
        return []

    def positions(self) -> Mapping[tuple[str, int], int]:
        """Next offset to read, by assigned (topic, partition)."""
        return dict(self._positions)


class ArchiveRecords(_Open):
    """Ends and single records of an archive, as `shadow.ports.LogAdmin` gives them."""

    def ends(self, topic: str) -> list[tuple[int, int]]:
        """(first offset, offset behind the last record) of each partition."""
        return list(self._topic(topic).ranges)

    def read_at(self, topic: str, partition: int, offsets: Sequence[int]) -> list[LogRecord]:
        """The records at these offsets, in ascending order.

        Raises:
            BrokenEvidence: If one of them is not in the archive.
        """
        file = self._topic(topic)
        records = []
        for offset in sorted(set(offsets)):
            file.check(partition, offset)
            group = file.group_from(partition, offset)
            index = bisect_left(group, offset, key=lambda record: record.offset)
            if index >= len(group) or group[index].offset != offset:
                raise BrokenEvidence(f"{topic}/{partition}: offset {offset} is not in the archive")
            records.append(group[index])
        return records
