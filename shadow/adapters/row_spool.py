"""Rows on disk until all are known: they come in the order of the log, and are wanted in that of the requests."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from shadow.errors import Unavailable


@dataclass(frozen=True, slots=True)
class SpooledRow:
    """One row.

    Args:
        place: Partition and offset of the request, and the comparison.
        digest: Equal for rows that say the same.
        line: The row as one line.
    """

    place: tuple[int, int, str]
    digest: bytes
    line: bytes


class RowSpool:
    """Takes rows in any order and gives them back by place. What it holds is gone when it is closed.

    Raises:
        Unavailable: From every method, if the disk does not take or give them.
    """

    def __init__(self) -> None:
        # A database without a name is a file that nobody else sees and that is deleted with the connection.
        self._rows = sqlite3.connect("", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE rows (partition INT, offset INT, comparison TEXT, digest BLOB, line BLOB)",
            "CREATE TABLE known (digest BLOB PRIMARY KEY) WITHOUT ROWID",
            "BEGIN",
        ):
            self._rows.execute(statement)

    def add(self, row: SpooledRow) -> None:
        """Take a row."""
        try:
            self._rows.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", (*row.place, row.digest, row.line))
        except sqlite3.Error as error:
            raise _full(error) from error

    def rows(self) -> Iterator[SpooledRow]:
        """The rows by partition, offset and comparison."""
        try:
            found = self._rows.execute("SELECT * FROM rows ORDER BY partition, offset, comparison")
            for partition, offset, comparison, digest, line in found:
                yield SpooledRow((partition, offset, comparison), digest, line)
        except sqlite3.Error as error:
            raise _full(error) from error

    def is_new(self, digest: bytes) -> bool:
        """Remember a digest; False where it is known."""
        try:
            return self._rows.execute("INSERT OR IGNORE INTO known VALUES (?)", (digest,)).rowcount == 1
        except sqlite3.Error as error:
            raise _full(error) from error

    def close(self) -> None:
        """Forget everything."""
        self._rows.close()


def _full(error: sqlite3.Error) -> Unavailable:
    return Unavailable(
        f"the rows cannot be kept on disk before they are written ({error}); TMPDIR or SQLITE_TMPDIR names another one"
    )
