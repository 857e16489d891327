"""Write a run's records to Parquet, row group by row group, so that no more than a few groups are in memory."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from shadow.adapters.archive import FILES, MANIFEST, file_of, parquet, part_of, read_manifest, sha256_of
from shadow.errors import BrokenEvidence, Unavailable, Usage
from shadow.records.log import LogRecord
from shadow.records.pairs import GradedPair

GROUP_ROWS: Final = 4096
GROUP_BYTES: Final = 4 << 20
WAITING_BYTES_MAX: Final = 64 << 20
"""Bytes of all partitions' unfinished row groups; beyond it the largest is written as it is."""
_NESTED: Final = ("slices", "grades")
"""Fields of a graded pair that are not one plain value."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a disk that refuses into a sentence, and leaves no half-written file."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        for path in _paths(folder):
            part_of(path).unlink(missing_ok=True)


def finish(folder: Path, manifest: bytes) -> None:
    """Put whole files in their places, run.json last. Until then an older archive of the run is as it was."""
    part_of(folder / MANIFEST).write_bytes(manifest)
    for path in _paths(folder):
        part_of(path).replace(path)


def prepare(folder: Path, run: str) -> None:
    """Make the folder, or refuse one that holds anything else than an archive of the same run.

    Raises:
        Usage: If it does.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise Usage(f"{folder} cannot be used as a folder: {error.strerror or error}") from error
    names -= {part_of(path).name for path in _paths(folder)}  # of an archive that was cut off
    foreign = sorted(names - {path.name for path in _paths(folder)} if MANIFEST in names else names)
    if foreign:
        raise Usage(f"{folder} is not empty, and {foreign[0]} is not of an archive of this run; name another --out")
    if not names:
        return
    try:
        known = read_manifest(folder).started.run
    except BrokenEvidence as damage:
        raise Usage(f"{damage}; delete {folder}, or name another --out") from damage
    if known != run:
        raise Usage(f"{folder} holds the archive of the run {known}, not of {run}; name another --out")


def _paths(folder: Path) -> list[Path]:
    return [*(file_of(folder, kind) for kind in FILES), folder / MANIFEST]


class RecordFile:
    """One topic's raw records."""

    def __init__(self, path: Path) -> None:
        self._pyarrow, module = parquet()
        arrow = self._pyarrow
        self._schema = arrow.schema(
            [
                arrow.field("partition", arrow.int32(), nullable=False),
                arrow.field("offset", arrow.int64(), nullable=False),
                arrow.field("time_us", arrow.int64(), nullable=False),
                arrow.field("key", arrow.binary()),
                arrow.field("headers", arrow.map_(arrow.string(), arrow.binary())),
                arrow.field("value", arrow.binary()),
            ]
        )
        self._writer = module.ParquetWriter(path, self._schema, compression="zstd", write_statistics=True)
        self._waiting: dict[int, list[LogRecord]] = {}
        self._bytes: dict[int, int] = {}
        self.rows = 0

    def add(self, record: LogRecord) -> None:
        """Take the next record of its partition."""
        partition = record.partition
        waiting = self._waiting.setdefault(partition, [])
        waiting.append(record)
        self._bytes[partition] = self._bytes.get(partition, 0) + len(record.value or b"") + len(record.key or b"") + 64
        if len(waiting) >= GROUP_ROWS or self._bytes[partition] >= GROUP_BYTES:
            self._flush(partition)
        elif sum(self._bytes.values()) > WAITING_BYTES_MAX:
            self._flush(max(self._bytes, key=lambda each: self._bytes[each]))

    def close(self) -> None:
        """Write what waits, and end the file."""
        for partition in sorted(self._waiting):
            self._flush(partition)
        self._writer.close()

    def _flush(self, partition: int) -> None:
        records = self._waiting.pop(partition, [])
        self._bytes.pop(partition, None)
        if not records:
            return
        columns = {
            "partition": [record.partition for record in records],
            "offset": [record.offset for record in records],
            "time_us": [record.time_us for record in records],
            "key": [record.key for record in records],
            "headers": [list(record.headers.items()) for record in records],
            "value": [record.value for record in records],
        }
        self._writer.write_table(self._pyarrow.table(columns, schema=self._schema), row_group_size=len(records))
        self.rows += len(records)


class PairFile:
    """Graded pairs, flat: the pair's own fields, and of each grader and role the outcome, score and reason.

    Args:
        graders: Graders of the configuration, which make the columns.
        roles: Roles that are graded.
    """

    def __init__(self, path: Path, graders: Sequence[str], roles: Sequence[str]) -> None:
        self._pyarrow, module = parquet()
        self._names = [(grader, role) for grader in graders for role in roles]
        self._fields = [field.name for field in dataclasses.fields(GradedPair) if field.name not in _NESTED]
        self._schema = self._schema_of()
        self._writer = module.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0
        self.rows = 0

    def _schema_of(self) -> Any:
        arrow = self._pyarrow
        hints = typing.get_type_hints(GradedPair)
        kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bytes: arrow.binary()}
        columns = [arrow.field(name, kinds[hints[name]]) for name in self._fields]
        columns.append(arrow.field("slices", arrow.list_(arrow.string())))
        for grader, role in self._names:
            columns.append(arrow.field(f"{grader}.{role}.outcome", arrow.string()))
            columns.append(arrow.field(f"{grader}.{role}.score", arrow.float64()))
            columns.append(arrow.field(f"{grader}.{role}.reason", arrow.string()))
        return arrow.schema(columns)

    def add(self, pair: GradedPair) -> None:
        """Take a pair."""
        row: dict[str, Any] = {name: getattr(pair, name) for name in self._fields}
        row["slices"] = list(pair.slices)
        for grader, role in self._names:
            grade = pair.grades.get(grader, {}).get(role)
            if grade is not None:
                prefix = f"{grader}.{role}"
                row[f"{prefix}.outcome"], row[f"{prefix}.score"] = grade.outcome, grade.score
                row[f"{prefix}.reason"] = grade.reason
        self._waiting.append(row)
        self._bytes += sum(len(value) for value in row.values() if isinstance(value, bytes)) + 256
        if len(self._waiting) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what waits, and end the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._pyarrow.Table.from_pylist(self._waiting, schema=self._schema))
            self.rows += len(self._waiting)
        self._waiting, self._bytes = [], 0


def facts_of(path: Path, rows: int) -> dict[str, Any]:
    """What run.json says of a file."""
    return {"rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
