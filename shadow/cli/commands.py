"""What people order of a run: hold, resume, promote, rollback, extend. Each needs a reason and a name."""

from __future__ import annotations

import getpass
import uuid
from contextlib import closing
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from consumers.loop import WallClock
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import found_run, runs_of, transactional_id
from shadow.cli.exits import DONE, checked_output, exiting
from shadow.desk.commands import Given, give
from shadow.errors import Unavailable, Usage
from shadow.gate.commands import fault
from shadow.gate.history import Run
from shadow.ports import Log
from shadow.records.decisions import EXTEND, HOLD, PROMOTE, RESUME, ROLLBACK, Command
from shadow.settings.settings import Settings
from shadow.settings.units import duration_text, duration_us_from

RunName = Annotated[
    str | None,
    typer.Argument(help="Name of the run; the newest one of the configuration by default.", metavar="[RUN]"),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, in one line; it stays in the log.", metavar="TEXT")]
By = Annotated[
    str | None, typer.Option("--by", help="Name of who orders it; the login name by default.", metavar="NAME")
]
Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]
Override = Annotated[
    bool, typer.Option("--override", help="Needed: it says that the gate's own proof is not waited for.")
]
Confirm = Annotated[
    str | None, typer.Option("--confirm", help="Id of another person's promotion that this one confirms.", metavar="ID")
]
For = Annotated[str, typer.Option("--for", help="By how much, such as 24h or 7d.", metavar="DURATION")]

DEFAULT_CONFIG = Path("shadow.yaml")
_SAID = {
    HOLD: "held: nothing is promoted until it is resumed; evidence may still roll it back",
    RESUME: "resumed: tiles that close from now on may promote it",
    ROLLBACK: "rolled back: proxies route nothing to the candidate any more, and the gate ends the run",
    PROMOTE: "promoted: the gate obeys at its next look",
    EXTEND: "extended",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (hold, resume, promote, rollback, extend):
        app.command()(exiting(command))


def hold(
    reason: Reason, run: RunName = None, by: By = None, config: Config = DEFAULT_CONFIG, output: Output = "table"
) -> int:
    """Stop promotions of a run until someone resumes it; rollbacks by evidence go on."""
    return _order(HOLD, run, reason, by, config, output)


def resume(
    reason: Reason, run: RunName = None, by: By = None, config: Config = DEFAULT_CONFIG, output: Output = "table"
) -> int:
    """End every hold of a run."""
    return _order(RESUME, run, reason, by, config, output)


def promote(
    reason: Reason,
    run: RunName = None,
    override: Override = False,
    confirm: Confirm = None,
    by: By = None,
    config: Config = DEFAULT_CONFIG,
    output: Output = "table",
) -> int:
    """Promote a run's candidate against the gate's own proof."""
    return _order(PROMOTE, run, reason, by, config, output, override=override, confirms=confirm or "")


def rollback(
    reason: Reason, run: RunName = None, by: By = None, config: Config = DEFAULT_CONFIG, output: Output = "table"
) -> int:
    """End a run, and the candidate's live traffic at once, whatever the evidence says."""
    return _order(ROLLBACK, run, reason, by, config, output)


def extend(
    reason: Reason,
    longer: For,
    run: RunName = None,
    by: By = None,
    config: Config = DEFAULT_CONFIG,
    output: Output = "table",
) -> int:
    """Put off the end of a run that has proven nothing yet."""
    us = duration_us_from(longer)
    if us is None or us % 1_000_000:
        raise Usage(f"--for: read {longer!r}, must be a duration of whole seconds such as 24h or 7d")
    return _order(EXTEND, run, reason, by, config, output, for_s=us // 1_000_000)


def _order(
    word: str,
    name: str | None,
    reason: str,
    by: str | None,
    config: Path,
    output: str,
    *,
    override: bool = False,
    confirms: str = "",
    for_s: int = 0,
) -> int:
    checked_output(output)
    configure("text", "error")
    now_us = WallClock().now_us()
    command = Command(str(uuid.uuid4()), name or "", word, by or _login(), reason, now_us, override, for_s, confirms)
    wrong = fault(command)
    if wrong:
        raise Usage(wrong)
    settings = wiring.settings_from(config)
    log = wiring.open_log(settings)
    with closing(log.decisions(settings.topics.decisions, transactional_id(settings))) as writer:
        run = found_run(runs_of(writer), name, settings)
        if for_s:
            _refuse_forgetting(settings, log, run, for_s)
        command = Command(command.command_id, run.name, word, command.by, reason, now_us, override, for_s, confirms)
        try:
            given = give(writer, command, four_eyes=settings.admin.four_eyes)
        except Unavailable as away:
            raise Unavailable(
                f"{away}; `shadow status` shows whether the order stands there; it may be given again"
            ) from away
    if output == "json":
        tree = {"run": run.name, "command": word, "command_id": command.command_id, "by": command.by}
        typer.echo(orjson.dumps(tree, option=orjson.OPT_INDENT_2).decode())
    else:
        Console(highlight=False, soft_wrap=True).print(_told(given, settings), markup=False)
    return DONE


def _told(given: Given, settings: Settings) -> str:
    command, name = given.command, given.run.name
    said = _SAID[command.command]
    if command.command == EXTEND:
        said = f"extended by {duration_text(command.for_s * 1_000_000)}"
    if command.command == PROMOTE and settings.admin.four_eyes and not command.confirms:
        said = (
            "to be promoted once another person confirms it: "
            f"shadow promote {name} --override --confirm {command.command_id} --reason TEXT"
        )
    return f"run {name}: {said}\ncommand {command.command_id} by {command.by}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise Usage("this machine knows no login name; give yours with --by NAME") from error


def _refuse_forgetting(settings: Settings, log: Log, run: Run, for_s: int) -> None:
    """Refuse an extension beyond what the topics keep: the run could not be counted again from its log."""
    policy, started = settings.policy(), run.started
    waiting_s = sum(each.for_s for each in run.pending)
    longest_us = max(policy.deadline_us(comparison) for comparison in policy.comparisons)
    needed_ms = (run.expires_us - started.started_us + (waiting_s + for_s) * 1_000_000 + longest_us) // 1000
    with closing(log.admin()) as admin:
        for topic in (settings.topics.requests, settings.topics.answers):
            state = admin.topic(topic)
            kept_ms = int(state.config.get("retention.ms", -1)) if state is not None else -1
            if 0 <= kept_ms < needed_ms:
                raise Usage(
                    f"{topic} keeps records for retention.ms {kept_ms}, and the run would need them for {needed_ms} "
                    "ms; make it longer first, or extend by less"
                )
