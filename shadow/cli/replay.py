"""Recompute a run from its log and compare it with what was counted; or judge a past run by another policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console

from shadow.adapters.archive import Manifest, open_archive
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import found_run, runs_of, transactional_id
from shadow.cli.exits import BROKEN, BY_DECISION, DONE, UNDECIDED, checked_output, exiting
from shadow.cli.replay_backtest import backtest
from shadow.cli.replay_compare import Comparison, Difference, StoreComparison, compare_decisions
from shadow.cli.replay_log import Source
from shadow.cli.replay_run import Replay, Replayed, ReplayPlan, Taps
from shadow.cli.replay_shown import Report, document_of, progress_bar, table_of
from shadow.errors import Usage
from shadow.gate.history import Run
from shadow.gate.run import RunState
from shadow.ports import Store
from shadow.records.decisions import PROMOTE, Decision
from shadow.settings.loader import settings_from_bytes
from shadow.settings.settings import Settings

CONFIG: Final = Path("shadow.yaml")
DECISION: Final = "decision"
END: Final = "end"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(replay))


def replay(
    run: Annotated[
        str | None, typer.Argument(help="Name of the run; the newest one by default.", metavar="[RUN]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("-c", help="The run's own configuration: shadow.yaml, or what the archive holds.", metavar="FILE"),
    ] = None,
    other: Annotated[
        Path | None,
        typer.Option("--config", help="Another configuration, by which the past run is judged.", metavar="FILE"),
    ] = None,
    regrade: Annotated[
        bool, typer.Option("--regrade", help="Graders may differ from the run's, and grade its answers anew.")
    ] = False,
    first: Annotated[
        int | None, typer.Option("--from", help="First tile to compare, or, in a back-test, to judge.", metavar="TILE")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option(
            "--to", help="Last tile: its number, decision, or end; by default the decision's.", metavar="TILE"
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--archive", help="Read this archive, not Kafka and Redis.", metavar="DIR")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> int:
    """Recompute tiles, totals, verdict and digest of a run from its log, and compare them with what was counted."""
    checked_output(output)
    configure("text", "error")
    with _taken(run, config, other, folder) as taken:
        report = recompute(taken, regrade=regrade, first=first, last=last)
    if output == "json":
        typer.echo(orjson.dumps(document_of(report), option=orjson.OPT_INDENT_2).decode())
    else:
        Console(highlight=False, soft_wrap=True).print(table_of(report))
    return _exit_code(report)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is replayed, and from where.

    Args:
        settings: The run's own configuration.
        other: The one to judge it by; None for a replay as it was.
        place: `kafka`, or the archive's folder.
        store: What closed tiles are compared with; None for an archive.
        manifest: What the archive says of itself; None for Kafka.
    """

    run: Run
    settings: Settings
    other: Settings | None
    source: Source
    place: str
    store: Store | None = None
    manifest: Manifest | None = None


@contextmanager
def _taken(name: str | None, config: Path | None, other: Path | None, folder: Path | None) -> Iterator[Taken]:
    other_settings = wiring.settings_from(other) if other is not None else None
    if folder is not None:
        manifest, source = open_archive(folder)
        settings = _archived_settings(manifest, config)
        run = Run(manifest.started, manifest.decisions, manifest.commands, manifest.obeyed)
        if name is not None and name != run.name:
            raise Usage(f"{folder} holds the run {run.name}, not {name!r}")
        _check_digest(settings, run, str(config or folder))
        yield Taken(run, settings, other_settings, source, str(folder), None, manifest)
        return
    path = config if config is not None or other is None or CONFIG.exists() else other
    settings = wiring.settings_from(path or CONFIG)
    log = wiring.open_log(settings)
    writer = log.decisions(settings.topics.decisions, transactional_id(settings))
    with closing(writer):
        run = found_run(runs_of(writer), name, settings)
    _check_digest(settings, run, str(path or CONFIG))
    with closing(wiring.open_store(settings)) as store:
        yield Taken(run, settings, other_settings, log, "kafka", store)


def _archived_settings(manifest: Manifest, config: Path | None) -> Settings:
    if config is not None:
        return wiring.settings_from(config)
    return settings_from_bytes(manifest.configuration.encode(), os.environ, file="the archive's configuration")


def _check_digest(settings: Settings, run: Run, path: str) -> None:
    if settings.digest() != run.started.digest:
        raise Usage(
            f"the run {run.name} began with the configuration {run.started.digest[:12]}, and {path} is "
            f"{settings.digest()[:12]}; give the run's own with -c, and another one to judge it by with --config"
        )


def recompute(taken: Taken, *, regrade: bool, first: int | None, last: str | None) -> Report:
    """Replay a run and compare; a back-test compares nothing, since it asks what would have been.

    Args:
        regrade: Whether deterministic graders may be others, or other code, than in the run.
        first: First tile compared or judged; None for the run's first.
        last: As `--to`.
    """
    run, started = taken.run, taken.run.started
    is_backtest = regrade or (taken.other is not None and taken.other.digest() != started.digest)
    comparison = Comparison()
    settings = taken.settings
    if is_backtest and taken.other is not None:
        tested = backtest(taken.settings, taken.other, started, regrade=regrade)
        settings, comparison.notes = tested.settings, [*tested.notes]
    recorded = run.decisions[-1] if run.decisions else None
    begin = _first_tile(run, first)
    plan = ReplayPlan(
        settings=settings,
        started=started,
        answers=taken.settings.topics.answers if taken.manifest is None else taken.manifest.topics["answers"],
        requests=taken.settings.topics.requests if taken.manifest is None else taken.manifest.topics["requests"],
        first=begin if is_backtest else started.first_tile,
        last=_last_tile(run, begin, last or (END if is_backtest or recorded is None else DECISION)),
        recorded=() if is_backtest else run.decisions,
        decides=is_backtest,
        graders=frozenset(spec.name for spec in settings.grader_specs()) if is_backtest else None,
        run=None if is_backtest else run,
    )
    if is_backtest and run.commands:
        comparison.notes.append(f"{len(run.commands)} commands of people are left out: only the evidence is judged")
    with progress_bar("replay") as progress:
        if is_backtest:
            replayed = Replay(plan, taken.source, Taps(progress=progress)).run()
        else:
            replayed = _compared(plan, taken, begin, comparison, progress)
    return Report(started, taken.place, begin, replayed, comparison, recorded, is_backtest)


def _compared(
    plan: ReplayPlan, taken: Taken, first: int, into: Comparison, progress: Callable[[int, int], None]
) -> Replayed:
    """Replay a run as it was, and compare everything that is known of it."""
    policy = plan.settings.policy()
    stored = StoreComparison(taken.store, plan.started, policy, first, into) if taken.store is not None else None
    archived = taken.manifest.replayed if taken.manifest is not None else {}

    def folded(state: RunState, tiles: Mapping[str, bytes]) -> None:
        if stored is not None:
            stored.folded(state, tiles)
        if state.folded == archived.get("tile"):
            into.saw("archive_digest")
            if state.tiles_digest.hex() != archived["tiles_digest"]:
                was, now = archived["tiles_digest"], state.tiles_digest.hex()
                into.add(Difference("archive", state.folded, "tiles_digest", was, now))

    taps = Taps(folded=folded, progress=progress)
    if stored is not None:
        taps = Taps(closed=stored.closed, folded=folded, progress=progress)
    replayed = Replay(plan, taken.source, taps).run()
    if stored is not None:
        stored.finish(replayed.state.folded)
    for recorded in plan.recorded:
        if recorded.step in replayed.recomputed and recorded.tile >= first:
            compare_decisions(recorded, replayed.recomputed[recorded.step], into)
    _compare_early(replayed, plan.recorded[-1] if plan.recorded else None, stored, into)
    return replayed


def _compare_early(
    replayed: Replayed, recorded: Decision | None, stored: StoreComparison | None, into: Comparison
) -> None:
    """Say where the evidence alone decides before the log does: the gate may have held a promotion, nothing else."""
    if replayed.early is None:
        return
    tile, decision = replayed.early
    until = recorded.tile if recorded is not None else stored.gate_folded if stored is not None else None
    if decision == PROMOTE or until is None or tile >= until:
        into.notes.append(f"by the evidence alone: {decision} at tile {tile}; the gate also looks at how fresh it is")
    else:
        into.add(Difference("decision", tile, "decision", "nothing", decision))


def _first_tile(run: Run, first: int | None) -> int:
    begin = run.started.first_tile
    if first is not None and first < begin:
        raise Usage(f"--from: the run's first tile is {begin}; read {first}")
    return begin if first is None else first


def _last_tile(run: Run, first: int, last: str) -> int | None:
    """The last tile that is wanted; None for the log's end."""
    if last == END:
        return None
    if last == DECISION:
        if not run.decisions:
            raise Usage(f"--to: the run {run.name} has no decision yet; give a tile's number, or end")
        return run.decisions[-1].tile
    if not (last.isascii() and last.isdecimal() and len(last) < 19):
        raise Usage(f"--to: read {last!r}, must be a tile's number, decision or end")
    if int(last) < first:
        raise Usage(f"--to: the first tile is {first}; read {last}")
    return int(last)


def _exit_code(report: Report) -> int:
    if report.replayed.broken or report.comparison.count:
        return BROKEN
    if report.is_backtest:
        decision = report.replayed.decision
        return BY_DECISION[decision.decision] if decision is not None else UNDECIDED
    return DONE if report.is_identical else UNDECIDED
