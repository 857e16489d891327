"""Compare what an engine counted with what the comparator counted: a figure for a wrong result is void. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.peers.job import Counts
from shadow.records.tallies import CLASSES, Tally


def differences(
    counts: Counts, pairs: int, tallies: Mapping[int, Tally], graders: Sequence[str], *, is_whole: bool
) -> list[str]:
    """What is different, one sentence each; empty where all is equal.

    Args:
        counts: The engine's vectors by (minute, slice).
        pairs: How many pairs it was given.
        tallies: The comparator's counts by minute.
        graders: Names of the graders in the order of the vectors.
        is_whole: Whether the comparator had the same pairs; otherwise it had the first minutes of them.
    """
    return list(_differences(counts, pairs, tallies, graders, is_whole=is_whole))


def _differences(
    counts: Counts, pairs: int, tallies: Mapping[int, Tally], graders: Sequence[str], *, is_whole: bool
) -> Iterator[str]:
    total = sum(vector[0] for (_, slice), vector in counts.items() if slice == "all")
    if total != pairs:
        yield f"it counted {total:,} of {pairs:,} pairs"
    ours = {(minute, key.slice) for minute, tally in tallies.items() for key in tally if key.kind == "classes"}
    theirs = {place for place in counts if is_whole or place[0] in tallies}
    if ours != theirs:
        yield f"{len(ours ^ theirs)} slices' minutes were counted by one of the two only"
    for minute, tally in sorted(tallies.items()):
        for key, vector in tally.vectors.items():
            found = counts.get((minute, key.slice))
            if found is None:
                continue
            if key.kind == "classes" and (vector[0] != found[0] or any(vector[1:])):
                classes = dict(zip(CLASSES, vector, strict=True))
                yield f"minute {minute}, slice {key.slice}: {found[0]} pairs here, {classes} there"
            if key.kind == "graders":
                place = 1 + 4 * graders.index(key.name)
                if vector != found[place : place + 4]:
                    yield (
                        f"minute {minute}, slice {key.slice}, grader {key.name}: "
                        f"{found[place : place + 4]} here, {vector} there"
                    )
