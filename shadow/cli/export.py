"""Write a run's graded pairs as training data: what failed, what differs, what people corrected."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml

from shadow.adapters.logs import configure
from shadow.adapters.row_spool import RowSpool, SpooledRow
from shadow.cli.exits import DONE, exiting
from shadow.cli.pairs import DEFAULT_CONFIG, Config, PastRun, RunName, check_slice, named_graders, past_run, versions_of
from shadow.cli.read_pairs import Scanned, read_pairs
from shadow.errors import Usage
from shadow.records.pairs import GradedPair
from shadow.training.card import MARK, card_text, card_tree
from shadow.training.judged import judged, judging
from shadow.training.rows import (
    CHOICES,
    COMPARISONS,
    FORMATS,
    Source,
    digest_of,
    is_chosen,
    line_of,
    row_of,
    superseded,
)
from shadow.training.texts import LeftOut

DATA: Final = "train.jsonl"
CARD: Final = "README.md"
REPEATED: Final = "the same as another row"
SUPERSEDED: Final = "a person's answer to the request is learned instead"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(export))


def export(
    out: Annotated[
        Path, typer.Option("--out", help="A folder for load_dataset, or a file that ends in .jsonl.", metavar="PATH")
    ],
    run: RunName = None,
    config: Config = DEFAULT_CONFIG,
    format: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.", metavar="FORMAT")] = "pairs",
    slice: Annotated[
        str | None, typer.Option("--slice", help="Only pairs of this slice; by default every pair.", metavar="SLICE")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only", help=f"One of {', '.join(CHOICES)}; by default the first three together.", metavar="KIND"
        ),
    ] = None,
    grader: Annotated[
        list[str] | None,
        typer.Option(
            "--grader",
            help="Only this grader judges; may be given more than once. By default all but latency and cost.",
            metavar="GRADER",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an earlier export.")] = False,
) -> int:
    """Write failed, disagreeing and human-corrected pairs as JSON lines, for fine-tuning and preference training."""
    _check_choice("--format", format, FORMATS)
    if only is not None:
        _check_choice("--only", only, CHOICES)
    target = Target(out, with_card=out.suffix != ".jsonl")
    target.check(is_replacing=force)
    configure("text", "error")
    past = past_run(run, config)
    settings = past.settings
    check_slice(settings, slice)
    graders = named_graders(settings, grader) if grader else judging(settings.grader_specs())
    made, scanned = write_export(past, Wanted(format, only, slice, graders), target)
    sys.stderr.write(_summary(made, scanned, past.run.name, target.data))
    for warning in scanned.warnings(settings.topics.pairs):
        sys.stderr.write(f"warning: {warning}\n")
    return DONE


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is exported.

    Args:
        only: As `is_chosen` takes it.
        slice: None for every pair.
        graders: Those that judge.
    """

    format: str
    only: str | None
    slice: str | None
    graders: frozenset[str]


@dataclass(slots=True)
class Made:
    """What became of the pairs.

    Args:
        chosen: Pairs of the wanted kind.
        rows: Rows that were written.
        left_out: Chosen pairs that gave none, by reason.
    """

    chosen: int = 0
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def write_export(past: PastRun, wanted: Wanted, target: Target) -> tuple[Made, Scanned]:
    """Read the pairs of a run, and write what is wanted of them.

    Raises:
        Unavailable: If the log does not answer, or the disk is full before all rows are known.
        Usage: If the target cannot be written.
    """
    started, made, scanned = past.run.started, Made(), Scanned()
    versions = versions_of(past.settings)
    source = Source(started.run, started.digest, started.production, started.candidate, versions)
    with closing(RowSpool()) as spool:
        for pair in read_pairs(past.log, past.settings.topics.pairs, started, scanned):
            if pair.comparison in COMPARISONS and (wanted.slice is None or wanted.slice in pair.slices):
                _take(pair, wanted, source, spool, made)
        target.write(_written(spool, wanted.format, made))
    if target.with_card:
        target.write_card(wanted.format, source, made.rows)
    return made, scanned


def _take(pair: GradedPair, wanted: Wanted, source: Source, spool: RowSpool, made: Made) -> None:
    found = judged(pair, wanted.graders)
    if not is_chosen(found, wanted.only):
        return
    made.chosen += 1
    try:
        row = row_of(pair, found, source, wanted.format)
    except LeftOut as reason:
        made.left_out[str(reason)] += 1
        return
    place = (pair.request_partition, pair.request_offset, pair.comparison)
    spool.add(SpooledRow(place, digest_of(row, wanted.format), line_of(row)))


def _written(spool: RowSpool, format: str, made: Made) -> Iterator[bytes]:
    """The lines by the position of their requests: each saying once, and of a request what is not superseded."""
    for _, of_request in groupby(spool.rows(), key=lambda row: row.place[:2]):
        rows = list(of_request)
        passed = superseded(format, [row.place[2] for row in rows])
        for row in rows:
            if row.place[2] in passed:
                made.left_out[SUPERSEDED] += 1
            elif not spool.is_new(row.digest):
                made.left_out[REPEATED] += 1
            else:
                made.rows += 1
                yield row.line


class Target:
    """Where an export goes.

    Args:
        out: A folder, or a file.
        with_card: Whether it is a folder: then a card beside the data says its columns.
    """

    def __init__(self, out: Path, *, with_card: bool) -> None:
        self.with_card = with_card
        self.data = out / DATA if with_card else out
        self.card = out / CARD

    def check(self, *, is_replacing: bool) -> None:
        """Refuse to write over anything but, if told so, an earlier export.

        Raises:
            Usage: If something stands there.
        """
        try:
            if self.with_card and self.card.exists() and MARK not in self.card.read_text(errors="replace"):
                raise Usage(f"{self.card} was not written by shadow export; choose another folder")
            if self.data.is_dir():
                raise Usage(f"{self.data} is a folder; choose another name")
            if self.with_card and self.card.parent.is_file():
                raise Usage(f"{self.card.parent} is a file; a folder is needed, or a name that ends in .jsonl")
            if not is_replacing and (self.data.exists() or (self.with_card and self.card.exists())):
                raise Usage(f"{self.data} exists; --force writes over it")
        except OSError as error:
            raise _unwritable(self.data, error) from error

    def write(self, lines: Iterable[bytes]) -> None:
        """Write the data; what stood there is replaced once all of it is written."""
        part = self.data.with_name(f"{self.data.name}.part")
        try:
            self.data.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.writelines(lines)
            part.replace(self.data)
        except OSError as error:
            raise _unwritable(self.data, error) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def write_card(self, format: str, source: Source, rows: int) -> None:
        """Write the card, so that `load_dataset(FOLDER)` knows the columns."""
        head = yaml.safe_dump(card_tree(format, self.data.name), sort_keys=False)
        try:
            self.card.write_text(f"---\n{head}---\n{card_text(format, source, rows)}")
        except OSError as error:
            raise _unwritable(self.card, error) from error


def _unwritable(path: Path, error: OSError) -> Usage:
    return Usage(f"{path} cannot be written: {error.strerror or error}")


def _check_choice(option: str, read: str, known: tuple[str, ...]) -> None:
    if read not in known:
        raise Usage(f"{option}: read {read!r}, must be one of {', '.join(known)}")


def _summary(made: Made, scanned: Scanned, run: str, data: Path) -> str:
    chosen = f"{made.chosen:,} chosen of {scanned.pairs:,} pairs"
    said = f"run {run}: {made.rows:,} rows in {data}, out of {chosen}"
    reasons = [f"{count:,}: {reason}" for reason, count in sorted(made.left_out.items())]
    return "\n".join([said, *(f"  left out {reason}" for reason in reasons)]) + "\n"
