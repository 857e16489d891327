"""Begin runs, list them, and show how far one is and why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from consumers.loop import WallClock
from shadow.adapters import last_known
from shadow.adapters.decisions import decisions_in
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import begin, runs_of, transactional_id
from shadow.cli.display import explanation, run_panel
from shadow.cli.examples import examples_of, examples_panel
from shadow.cli.exits import BROKEN, BY_DECISION, UNDECIDED, checked_output, exiting
from shadow.cli.pair_shown import json_text
from shadow.cli.safety import faults_of, risks_of
from shadow.cli.view import View, last_known_view, view_or_last_known
from shadow.errors import ShadowError, Unavailable, Usage
from shadow.gate.history import Run, runs_in
from shadow.gate.trials import not_begun
from shadow.ports import Log
from shadow.records.decisions import PROMOTE
from shadow.settings.settings import Settings

Config = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]
RunName = Annotated[str | None, typer.Argument(help="Name of the run; the newest one by default.", metavar="[RUN]")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (start, runs, status, explain):
        app.command()(exiting(command))


def start(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE")] = Path("shadow.yaml"),
    output: Output = "table",
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Begin it on services that may lose evidence, such as a single broker.")
    ] = False,
) -> int:
    """Begin a run of this configuration; does nothing where one is going on."""
    checked_output(output)
    configure("text", "error")
    settings = wiring.settings_from(config)
    log = wiring.open_log(settings)
    wiring.create_topics(settings, log)
    _refuse_unfit(settings, log, is_allowed=unsafe)
    begun = begin(settings, log, WallClock())
    started = begun.started
    if output == "json":
        _print_json({"run": started.run, "attempt": started.attempt, "is_new": begun.is_new})
    else:
        said = "begun" if begun.is_new else "going on already"
        Console(highlight=False, soft_wrap=True).print(f"run {started.run}: {said} (attempt {started.attempt})")
    return 0


def _refuse_unfit(settings: Settings, log: Log, *, is_allowed: bool) -> None:
    """Say everything that is wrong with the services at once; risks are allowed if told so, faults never."""
    store, admin = wiring.open_store(settings), log.admin()
    try:
        faults, risks = faults_of(settings, log, admin), risks_of(settings, log, store)
    finally:
        admin.close()
        store.close()
    if faults or (risks and not is_allowed):
        end = "nothing was begun" if faults else "nothing was begun; --unsafe begins a run all the same"
        raise Usage("\n".join([*faults, *risks, end]))
    for risk in risks:
        typer.echo(f"warning: {risk}", err=True)


def runs(config: Config = None, output: Output = "table") -> int:
    """List the runs, newest last: from Kafka with -c, else those that this machine knows."""
    checked_output(output)
    configure("text", "error")
    rows = _runs_of_kafka(config) if config is not None else _runs_of_machine()
    if output == "json":
        _print_json(rows)
        return 0
    table = Table(box=None, header_style="dim")
    for name in ("run", "stage", "attempt", "decision"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["run"], row["stage"], str(row["attempt"]), row["decision"] or "–")
    Console(highlight=False).print(table if rows else "no runs yet")
    return 0


def status(
    run: RunName = None,
    config: Config = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until there is a decision.")] = False,
    output: Output = "table",
) -> int:
    """Show the progress towards the pairs and hours that the stage needs, coverage and each rule."""
    checked_output(output)
    with _viewer(config, run) as look:
        view = look()
        if watch and output == "table":
            with Live(console=Console(highlight=False), refresh_per_second=2) as live:
                while view.document.get("decision") is None:
                    live.update(run_panel(view.document, view.note))
                    time.sleep(1.0)
                    view = look()
                live.update(run_panel(view.document, view.note))
        elif output == "json":
            _print_json({**view.document, "is_live": view.is_live})
        else:
            Console(highlight=False).print(run_panel(view.document, view.note))
    return _exit_code(view)


def explain(
    run: RunName = None,
    config: Config = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="And up to five pairs for each rule that has not passed; needs -c.")
    ] = False,
    output: Output = "table",
) -> int:
    """Say why: have, need and verdict of each rule, what blocks, and what would be needed."""
    checked_output(output)
    with _viewer(config, run) as look:
        view = look()
    found = examples_of(config, view.document) if examples else None
    if output == "json" and found is not None:
        typer.echo(json_text({**view.document, "is_live": view.is_live, **found.tree()}))
    elif output == "json":
        _print_json({**view.document, "is_live": view.is_live})
    else:
        console = Console(highlight=False)
        console.print(explanation(view.document, view.note))
        if found is not None:
            console.print(examples_panel(found))
    return _exit_code(view)


@contextmanager
def _viewer(config: Path | None, name: str | None) -> Iterator[Any]:
    """A function that looks at the run: in the services where they can be had, else at what this machine knows."""
    configure("text", "error")
    if config is None:
        yield lambda: last_known_view(name)
        return
    settings = wiring.settings_from(config)
    try:
        found = _find(_runs(settings), name, settings)
    except (Unavailable, wiring.NoneEmbedded) as away:
        view = last_known_view(name or _known_here(settings, away))
        note = f"last known state, since {away}"
        yield lambda: View(view.document, is_live=False, note=note)
        return
    store = wiring.open_store(settings)
    try:
        yield lambda: view_or_last_known(store, found)
    finally:
        store.close()


def _known_here(settings: Settings, away: ShadowError) -> str:
    """Name of the newest run of this configuration that this machine knows: another's decision is not its own.

    Raises:
        Usage: If it knows none.
    """
    beginning = settings.run_name(1).removesuffix("1")
    for known in reversed(last_known.run_names()):
        if known.startswith(beginning) and known.removeprefix(beginning).isdecimal():
            return known
    raise Usage(f"this machine knows no run of this configuration, and nobody can be asked: {away}")


def _runs(settings: Settings) -> list[Run]:
    writer = wiring.open_log(settings).decisions(settings.topics.decisions, transactional_id(settings))
    try:
        return runs_of(writer)
    finally:
        writer.close()


def _find(known: list[Run], name: str | None, settings: Settings) -> Run:
    if name is None:
        mine = [run for run in known if run.started.digest == settings.digest()]
        if not mine:
            raise Usage("no run has this configuration; `shadow start` begins one, `shadow runs` lists the others")
        return mine[-1]
    for run in known:
        if run.name == name:
            return run
    raise Usage(f"no run is named {name!r}; known are {', '.join(run.name for run in known) or 'none'}")


def _runs_of_kafka(config: Path) -> list[dict[str, Any]]:
    rows = []
    settings = wiring.settings_from(config)
    with closing(wiring.open_log(settings).decisions(settings.topics.decisions, transactional_id(settings))) as writer:
        known = decisions_in(writer.read())
    for run in runs_in(known):
        last = run.decisions[-1] if run.decisions else None
        rows.append(_row(run.name, run.stage, run.started.attempt, last))
    for name, trials in not_begun(known).items():
        decision = trials[-1].decision
        stage = "offline" if decision.decision == PROMOTE else decision.to_stage
        rows.append(_row(name, stage, trials[-1].attempt, decision))
    return rows


def _row(name: str, stage: str, attempt: int, decision: Any) -> dict[str, Any]:
    return {
        "run": name,
        "stage": stage,
        "attempt": attempt,
        "decision": decision.decision if decision else None,
        "reason": decision.reason if decision else None,
    }


def _runs_of_machine() -> list[dict[str, Any]]:
    rows = []
    for name in last_known.run_names():
        document = last_known.load(f"run-{name}") or {}
        decision = document.get("decision") or {}
        rows.append(
            {
                "run": name,
                "stage": document.get("stage", ""),
                "attempt": document.get("attempt", 0),
                "decision": decision.get("decision"),
                "reason": decision.get("reason"),
            }
        )
    return rows


def _exit_code(view: View) -> int:
    if view.document.get("broken"):
        return BROKEN
    decision = view.document.get("decision")
    return BY_DECISION[decision["decision"]] if decision else UNDECIDED


def _print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
