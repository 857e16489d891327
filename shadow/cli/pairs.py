"""Show the worst pairs of a run: what was asked, both answers side by side, and what each grader said."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import found_run, runs_of, transactional_id
from shadow.cli.exits import DONE, checked_output, exiting
from shadow.cli.pair_shown import json_text, pairs_panel
from shadow.cli.read_pairs import Scanned, read_pairs
from shadow.errors import Usage
from shadow.gate.history import Run
from shadow.graders.grader import GRADERS
from shadow.ports import Log
from shadow.records.slices import ALL
from shadow.settings.settings import Settings
from shadow.training.pair_tree import pair_tree
from shadow.training.rows import COMPARISONS
from shadow.training.worst import HowBad, Worst, worst_of

LIMIT_MAX: Final = 1000
DEFAULT_CONFIG: Final = Path("shadow.yaml")

Config = Annotated[Path, typer.Option("--config", "-c", help="The run's configuration.", metavar="FILE")]
RunName = Annotated[
    str | None, typer.Argument(help="Name of the run; the newest of the configuration by default.", metavar="[RUN]")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(pairs))


def pairs(
    run: RunName = None,
    config: Config = DEFAULT_CONFIG,
    slice: Annotated[
        str | None, typer.Option("--slice", help="Only pairs of this slice; by default every pair.", metavar="SLICE")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only pairs at which the candidate failed.")] = False,
    grader: Annotated[
        list[str] | None,
        typer.Option("--grader", help="Only this grader counts; may be given more than once.", metavar="GRADER"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help=f"How many are shown, 1 to {LIMIT_MAX}.", metavar="N")] = 10,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> int:
    """Show the worst pairs side by side: regressions first, then failures, then lost scores."""
    checked_output(output)
    if not 1 <= limit <= LIMIT_MAX:
        raise Usage(f"--limit: read {limit}, must be from 1 to {LIMIT_MAX}")
    configure("text", "error")
    past = past_run(run, config)
    check_slice(past.settings, slice)
    graders = named_graders(past.settings, grader or ())
    worst, scanned = worst_pairs(past, worst_of(slice, graders, failed=failed), limit)
    found = worst.pairs()
    if output == "json":
        versions = versions_of(past.settings)
        rows = [pair_tree(pair, versions) for pair in found]
        typer.echo(json_text({"run": past.run.name, "slice": slice, "found": worst.found, "pairs": rows}))
    elif found:
        Console(highlight=False, markup=False).print(pairs_panel(found))
    kind = " at which the candidate failed" if failed else ""
    where = f" in the slice {slice}" if slice is not None else ""
    sys.stderr.write(
        f"run {past.run.name}: {len(found):,} of {worst.found:,} pairs{kind}{where}, out of {scanned.pairs:,}\n"
    )
    for warning in scanned.warnings(past.settings.topics.pairs):
        sys.stderr.write(f"warning: {warning}\n")
    return DONE


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run whose pairs are read, with its own configuration."""

    settings: Settings
    log: Log
    run: Run


def worst_pairs(past: PastRun, how_bad: HowBad, limit: int) -> tuple[Worst, Scanned]:
    """The worst pairs of a run, and how many were read for them."""
    worst, scanned = Worst(how_bad, limit), Scanned()
    for pair in read_pairs(past.log, past.settings.topics.pairs, past.run.started, scanned):
        if pair.comparison in COMPARISONS:
            worst.add(pair)
    return worst, scanned


def past_run(name: str | None, config: Path) -> PastRun:
    """Find a run by the configuration with which it began.

    Raises:
        Usage: If there is no such run, or the configuration is another one.
    """
    settings = wiring.settings_from(config)
    log = wiring.open_log(settings)
    with closing(log.decisions(settings.topics.decisions, transactional_id(settings))) as writer:
        run = found_run(runs_of(writer), name, settings)
    if settings.digest() != run.started.digest:
        raise Usage(
            f"the run {run.name} began with the configuration {run.started.digest[:12]}, and {config} is "
            f"{settings.digest()[:12]}; give the run's own with -c"
        )
    return PastRun(settings, log, run)


def check_slice(settings: Settings, name: str | None) -> None:
    """Raise Usage where a slice is not the configuration's."""
    known = [ALL, *(spec.name for spec in settings.slice_specs())]
    if name is not None and name not in known:
        raise Usage(f"--slice: read {name!r}, must be one of {', '.join(known)}")


def named_graders(settings: Settings, names: list[str] | tuple[str, ...]) -> frozenset[str]:
    """The graders that are named, or all of them where none is.

    Raises:
        Usage: If one is not the configuration's.
    """
    known = [spec.name for spec in settings.grader_specs()]
    for name in names:
        if name not in known:
            raise Usage(f"--grader: read {name!r}, must be one of {', '.join(known)}")
    return frozenset(names or known)


def versions_of(settings: Settings) -> dict[str, str]:
    """Kind and version of each grader; the code of a `python` grader is not loaded for it."""
    return {spec.name: f"{spec.kind}/{GRADERS[spec.kind].version}" for spec in settings.grader_specs()}
