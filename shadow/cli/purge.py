"""Delete what was derived from a run; its records in the log stay, and everything can be derived again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from shadow.adapters import last_known
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import comparator_group, runs_of, transactional_id, worker_group
from shadow.cli.exits import BROKEN, DONE, checked_output, exiting
from shadow.errors import Unavailable, Usage
from shadow.gate.history import Run
from shadow.ports import Log, LogAdmin, Store
from shadow.records.comparisons import BASELINE, CANDIDATE
from shadow.settings.settings import Settings
from shadow.stream.state import slot_of


@dataclass(slots=True)
class Purged:
    """What was deleted of a run.

    Args:
        slots: Of the store: the partitions' and the gate's.
        tiles: Closed tiles in them.
        groups: Consumer groups.
        files: Documents of this machine.
        kept: What could not be deleted, one sentence each.
    """

    slots: list[str] = field(default_factory=list)
    tiles: int = 0
    groups: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(purge))


def purge(
    run: Annotated[str, typer.Argument(help="Name of the run.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")] = Path(
        "shadow.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Also of a run that is going on.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> int:
    """Delete what is derived from a run: its state in Redis, its consumer groups, and what this machine remembers."""
    checked_output(output)
    configure("text", "error")
    settings = wiring.settings_from(config)
    log = wiring.open_log(settings)
    found = named_run(log, settings, run)
    if not found.is_finished and not force:
        raise Usage(
            f"the run {run} is going on, in the stage {found.stage}; its processes would fold it again from the log: "
            "stop them and give --force"
        )
    with closing(wiring.open_store(settings)) as store:
        purged = purge_run(log, store, settings, found)
    if output == "json":
        document = {
            "run": run,
            "slots": purged.slots,
            "tiles": purged.tiles,
            "groups": purged.groups,
            "files": purged.files,
            "kept": purged.kept,
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(purged, run, settings)
    return BROKEN if purged.kept else DONE


def named_run(log: Log, settings: Settings, name: str) -> Run:
    """A run by its name.

    Raises:
        Usage: If there is none.
    """
    with closing(log.decisions(settings.topics.decisions, transactional_id(settings))) as writer:
        known = runs_of(writer)
    for run in known:
        if run.name == name:
            return run
    raise Usage(f"no run is named {name!r}; known are {', '.join(run.name for run in known) or 'none'}")


def purge_run(log: Log, store: Store, settings: Settings, run: Run) -> Purged:
    """Delete what is derived from a run; what is gone already is no trouble.

    Raises:
        Unavailable: If the store does not answer; the same call deletes the rest.
    """
    purged = Purged()
    slots = [slot_of(run.name, partition) for partition in range(len(run.started.answers_from))]
    # The gate's comes last: one that runs would begin at the first tile, and find none.
    for slot in (*slots, run.name):
        tiles = len(store.tile_names(slot))
        if store.purge(slot):
            purged.slots.append(slot)
            purged.tiles += tiles
    document = f"run-{run.name}"
    path = last_known.state_dir() / f"{document}.json"
    if path.exists():
        last_known.forget(document)
        purged.files.append(str(path))
    with closing(log.admin()) as admin:
        for group in groups_of(settings, run.name):
            _delete_group(admin, group, purged)
    return purged


def groups_of(settings: Settings, run: str) -> list[str]:
    """The run's own consumer groups; production's workers answer for every run, so theirs is not among them."""
    return [*(worker_group(settings, run, role) for role in (CANDIDATE, BASELINE)), comparator_group(run)]


def _delete_group(admin: LogAdmin, group: str, purged: Purged) -> None:
    try:
        if admin.delete_group(group):
            purged.groups.append(group)
    except Unavailable as trouble:
        purged.kept.append(f"{group}: {trouble}")


def _print(purged: Purged, run: str, settings: Settings) -> None:
    console = Console(highlight=False, soft_wrap=True)
    topics = settings.topics
    for slot in purged.slots:
        console.print(f"deleted from redis: {slot}", markup=False)
    if purged.tiles:
        console.print(f"deleted from redis: {purged.tiles:,} closed tiles of these")
    for group in purged.groups:
        console.print(f"deleted from kafka: the consumer group {group}", markup=False)
    for file in purged.files:
        console.print(f"deleted from this machine: {file}", markup=False)
    if not (purged.slots or purged.groups or purged.files):
        console.print("nothing of it was left")
    for sentence in purged.kept:
        console.print(f"not deleted: {sentence}", style="bold red", markup=False)
    console.print(
        f"kept: the records of {run} in {topics.requests}, {topics.answers}, {topics.pairs} and {topics.decisions}; "
        "`shadow replay` computes everything from them",
        markup=False,
    )
