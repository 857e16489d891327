"""Integer tallies: everything the gate knows of a tile, mergeable by addition in any order.

A tally maps a key (slice, kind, name) to a short vector of integers, and, for the cluster correction,
to 128 sparse cells by hash of the sampling key. The layouts of the vectors, by kind:

    classes          paired, candidate_missing, production_missing, missing, sampled_out, unreadable
    missing          paired n, paired bytes, paired latency_us, missing n, missing bytes, missing latency_us
    graders          both passed, production only, candidate only, neither
    rates            violations, n                     (candidate only; `balance`, `feedback`: routed, n)
    numeric          41 counts of D from -1 to 1 in steps of 0.05
    cost             n, sum_c, sum_p, sum_cc, sum_pp, sum_cp
    latency          candidate only slow, production only slow, n, production slow
    reward_hacking   candidate only, production only, n
    agreement        candidate only differs from production, baseline only differs, n
    broken           pairs with a broken grade: they lower coverage

A cell holds (n_h, S_h) with S the sum of D, except for `numeric` (S in steps of 0.05) and `cost`
(n_h, sum_c, sum_p), so that all of it stays integer. Source of the layouts: statistics.md, a.1 and a.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name

CELLS: Final = 128
"""Hash cells of the cluster correction."""

BALANCE: Final = "balance"
"""Name of the rate of requests of a canary step that the candidate was to serve."""

FEEDBACK: Final = "feedback"
"""Name of the rate of negative votes of a canary step that are on what the candidate was to serve."""

CLASSES: Final = ("paired", "candidate_missing", "production_missing", "missing", "sampled_out", "unreadable")

WIDTH_BY_KIND: Final = {
    "classes": len(CLASSES),
    "missing": 6,
    "graders": 4,
    "rates": 2,
    "numeric": 41,
    "cost": 6,
    "latency": 4,
    "reward_hacking": 3,
    "agreement": 3,
    "broken": 1,
}


class Key(NamedTuple):
    """Which statistic: its slice, its kind, and the name of the grader, rule or quantity."""

    slice: str
    kind: str
    name: str


class Rows(Protocol):
    """Counts that are kept in another form until somebody reads the tally that they belong to."""

    def spread(self, tally: Tally) -> None:
        """Add everything to the tally by its `vector` and `cell`, and keep nothing."""


class Tally:
    """Counts of one tile, of a partition's share of one, or of many tiles added up.

    Args:
        vectors: Vector by key.
        cells: Cluster cells by key.

    Attributes:
        rows: Counts that are not in vectors and cells yet; whoever reads these has them spread first.
    """

    __slots__ = ("_cells", "_vectors", "rows")

    def __init__(
        self,
        vectors: dict[Key, list[int]] | None = None,
        cells: dict[Key, dict[int, list[int]]] | None = None,
    ) -> None:
        self._vectors = vectors if vectors is not None else {}
        self._cells = cells if cells is not None else {}
        self.rows: Rows | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and (self.vectors, self.cells) == (other.vectors, other.cells)

    __hash__ = None  # type: ignore[assignment]  # as of everything that changes

    def __repr__(self) -> str:
        return f"Tally({self.vectors!r}, {self.cells!r})"

    @property
    def vectors(self) -> dict[Key, list[int]]:
        """Vector by key; not for counting, which goes through `vector`."""
        if self.rows is not None:
            self.rows.spread(self)
        return self._vectors

    @property
    def cells(self) -> dict[Key, dict[int, list[int]]]:
        """Cluster cells by key; not for counting, which goes through `cell` and `cells_of`."""
        if self.rows is not None:
            self.rows.spread(self)
        return self._cells

    def vector(self, key: Key) -> list[int]:
        """The vector of a key to count in, made of zeros where it is new."""
        vector = self._vectors.get(key)
        if vector is None:
            vector = self._vectors[key] = [0] * WIDTH_BY_KIND[key.kind]
        return vector

    def cells_of(self, key: Key) -> dict[int, list[int]]:
        """The cluster cells of a key to count in."""
        cells = self._cells.get(key)
        if cells is None:
            cells = self._cells[key] = {}
        return cells

    def cell(self, key: Key, cell: int) -> list[int]:
        """One cluster cell of a key to count in, made of zeros where it is new."""
        cells = self.cells_of(key)
        values = cells.get(cell)
        if values is None:
            values = cells[cell] = [0] * (3 if key.kind == "cost" else 2)
        return values

    def count_rate(self, key: Key, cell: int, *, is_hit: bool) -> None:
        """Count one observation of a rate, in its vector and its cluster cell."""
        vector, cells = self.vector(key), self.cell(key, cell)
        vector[0] += is_hit
        vector[1] += 1
        cells[0] += 1
        cells[1] += is_hit

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        for key, vector in other.vectors.items():
            mine = self.vector(key)
            for i, value in enumerate(vector):
                mine[i] += value
        for key, cells in other.cells.items():
            for cell, values in cells.items():
                mine = self.cell(key, cell)
                for i, value in enumerate(values):
                    mine[i] += value

    def __iter__(self) -> Iterator[Key]:
        return iter(self.vectors)

    def to_bytes(self) -> bytes:
        """Canonical bytes: equal tallies give equal bytes, so a digest can be taken of them."""
        tree: dict[str, Any] = {}
        for key, vector in self.vectors.items():
            if any(vector):
                tree.setdefault("\t".join(key), {})["v"] = vector
        for key, cells in self.cells.items():
            kept = {str(cell): values for cell, values in cells.items() if any(values)}
            if kept:
                tree.setdefault("\t".join(key), {})["c"] = kept
        # The standard library, because sums of squares may pass 64 bits.
        return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> Tally:
        """Read what `to_bytes` wrote."""
        tally = cls()
        for name, parts in json.loads(value).items():
            key = Key(*name.split("\t"))
            if "v" in parts:
                tally._vectors[key] = parts["v"]
            if "c" in parts:
                tally._cells[key] = {int(cell): values for cell, values in parts["c"].items()}
        return tally


@dataclass(frozen=True, slots=True)
class ClosedTile:
    """One partition's share of a tile, final.

    Args:
        number: Tile number: append time in µs, divided by the tile's length.
        comparison: The comparison whose tile it is.
        tally: Its counts.
        next: Answers offset behind the record that closed it.
        tau0_us: Frozen latency reference by name of the latency statistic.
    """

    number: int
    tally: Tally
    next: int
    tau0_us: dict[str, int] = field(default_factory=dict)
    comparison: str = CANDIDATE_PRODUCTION

    @property
    def name(self) -> str:
        """Its name in the store."""
        return tile_name(self.number, self.comparison)

    def to_bytes(self) -> bytes:
        """Canonical bytes of the tile without what its name in the store says."""
        head = {"next": self.next, "tau0_us": self.tau0_us}
        return json.dumps(head, sort_keys=True, separators=(",", ":")).encode() + b"\n" + self.tally.to_bytes()

    @classmethod
    def from_bytes(cls, number: int, value: bytes, comparison: str = CANDIDATE_PRODUCTION) -> ClosedTile:
        """Read what `to_bytes` wrote."""
        head, _, tally = value.partition(b"\n")
        parts = json.loads(head)
        return cls(number, Tally.from_bytes(tally), parts["next"], parts["tau0_us"], comparison)
