"""Ask people: write out the requests that they are asked, and take their answers in."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final

import orjson
import typer

from consumers.loop import WallClock
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import runs_of, transactional_id
from shadow.cli.exits import DONE, checked_output, exiting
from shadow.desk.intake import Desk, Lines, Receipt, Rejected
from shadow.desk.lines import Line, line_from_bytes
from shadow.desk.plan import DeskPlan
from shadow.desk.questions import Told, questions
from shadow.errors import Usage
from shadow.gate.history import Run
from shadow.ports import Log
from shadow.records.comparisons import CANDIDATE, CANDIDATE_HUMAN, HUMAN
from shadow.settings.settings import Settings
from shadow.settings.units import duration_us_from

LINE_BYTES_MAX: Final = 16 << 20

Config = Annotated[Path, typer.Option("--config", "-c", help="The run's configuration.", metavar="FILE")]
RunName = Annotated[
    str | None, typer.Argument(help="Name of the run; the newest of the configuration by default.", metavar="[RUN]")
]
DEFAULT_CONFIG: Final = Path("shadow.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        name="answers", help="Ask people about a part of the requests, and take their answers in.", no_args_is_help=True
    )
    group.command("export")(exiting(export))
    group.command("import")(exiting(import_))
    app.add_typer(group)


def export(
    run: RunName = None,
    config: Config = DEFAULT_CONFIG,
    out: Annotated[Path | None, typer.Option("--out", help="A new file; stdout by default.", metavar="FILE")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only requests from then on: 2026-01-31T12:00Z, or 6h ago as 6h.")
    ] = None,
) -> int:
    """Write the requests that people are asked and have not answered, one line of JSON each."""
    configure("text", "error")
    now_us = WallClock().now_us()
    since_us = _time_us(since, now_us) if since is not None else None
    settings = wiring.settings_from(config)
    log = wiring.open_log(settings)
    plan = plan_of(settings, _run(log, settings, run, config))
    if plan.ended:
        raise Usage(f"the run {plan.run} has ended ({plan.ended}), so answers to its requests would count nowhere")
    told = Told()
    with _opened(out) as write:
        for line in questions(log, plan, told, since_us=since_us, now_us=now_us):
            write(line + b"\n")
    sys.stderr.write(_summary(told, plan))
    return DONE


def import_(
    file: Annotated[Path, typer.Argument(help="A file of JSON lines; - for stdin.", metavar="FILE.jsonl")],
    run: RunName = None,
    config: Config = DEFAULT_CONFIG,
    late: Annotated[
        bool, typer.Option("--late", help="Take answers too that come after their deadline; they count as late.")
    ] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> int:
    """Check all lines, then write the answers that are new; the same file may be imported again."""
    checked_output(output)
    configure("text", "error")
    settings = wiring.settings_from(config)
    with _spooled(file) as spool:
        log = wiring.open_log(settings)
        plan = plan_of(settings, _run(log, settings, run, config))
        with closing(Desk(log, plan, WallClock())) as desk:
            receipt = _taken(desk, _lines_of(spool, plan), with_late=late)
    if output == "json":
        document = {
            "run": plan.run,
            "written": receipt.written,
            "skipped": receipt.skipped,
            "late": receipt.late,
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(f"run {plan.run}: {receipt_sentence(receipt)}")
    return DONE


def receipt_sentence(receipt: Receipt) -> str:
    """What was taken in, for people."""
    late = f", {receipt.late:,} of them late" if receipt.late else ""
    return f"{receipt.written:,} answers written{late}; {receipt.skipped:,} stood there already"


def plan_of(settings: Settings, run: Run) -> DeskPlan:
    """What the desk must know of a run.

    Raises:
        Usage: If the configuration is not the run's, or asks no people.
    """
    if settings.digest() != run.started.digest:
        raise Usage(
            f"the run {run.name} began with the configuration {run.started.digest[:12]}, and this one is "
            f"{settings.digest()[:12]}; give the run's own with -c"
        )
    policy = settings.policy()
    if CANDIDATE_HUMAN not in policy.comparisons:
        raise Usage(f"no rule of the run {run.name} says against: human, so people are not asked anything")
    return DeskPlan(
        started=run.started,
        requests_topic=settings.topics.requests,
        answers_topic=settings.topics.answers,
        rates={role: settings.worker_rate(role) for role in (CANDIDATE, HUMAN)},
        deadline_us=policy.deadline_us(CANDIDATE_HUMAN),
        body_bytes_max=settings.proxy.mirror.body_max,
        ended=run.decisions[-1].decision if run.is_finished else "",
    )


def _run(log: Log, settings: Settings, name: str | None, config: Path) -> Run:
    with closing(log.decisions(settings.topics.decisions, transactional_id(settings))) as writer:
        known = runs_of(writer)
    wanted = [run for run in known if (run.name == name if name else run.started.digest == settings.digest())]
    if wanted:
        return wanted[-1]
    names = ", ".join(run.name for run in known) or "none"
    if name is None:
        raise Usage(f"no run has the configuration {config}; known are {names}")
    raise Usage(f"no run is named {name!r}; known are {names}")


def _summary(told: Told, plan: DeskPlan) -> str:
    parts = [f"{told.exported:,} requests to answer", f"{told.answered:,} are answered"]
    if told.overdue:
        parts.append(f"{told.overdue:,} are past the deadline of {plan.deadline_us / 1e6:,.0f} s")
    parts.append(f"{told.sampled_out:,} are not asked")
    if told.unreadable:
        parts.append(f"{told.unreadable:,} cannot be read")
    return f"run {plan.run}: {', '.join(parts)}\n"


def _time_us(text: str, now_us: int) -> int:
    """A time, or how long ago it was."""
    ago_us = duration_us_from(text)
    if ago_us is not None:
        return now_us - ago_us
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        raise Usage(
            f"--since: read {text!r}, must be a time such as 2026-01-31T12:00Z or a duration such as 6h"
        ) from None
    if time_.tzinfo is None:
        time_ = time_.replace(tzinfo=UTC)
    return round(time_.timestamp() * 1_000_000)


@contextmanager
def _opened(out: Path | None) -> Iterator[Callable[[bytes], Any]]:
    """Writes to stdout, or to a new file, which is taken away again where the export fails."""
    if out is None:
        try:
            yield sys.stdout.buffer.write
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever reads has enough, as in `| head`; the interpreter must not flush again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        file = out.open("xb")
    except FileExistsError:
        raise Usage(f"{out} exists, and people may have answered in it; choose another name") from None
    except OSError as error:
        raise Usage(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        with file:
            yield file.write
    except OSError as error:
        out.unlink(missing_ok=True)
        raise Usage(f"{out} cannot be written: {error.strerror or error}") from error
    except BaseException:
        out.unlink(missing_ok=True)
        raise


@contextmanager
def _spooled(file: Path) -> Iterator[IO[bytes]]:
    """A copy of the input: it is read twice, and must be the same both times."""
    if str(file) == "-" and sys.stdin is None:
        raise Usage("the standard input is closed, so there are no answers to read")
    with tempfile.TemporaryFile() as spool:
        try:
            source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
            with source:
                while piece := source.read(1 << 20):
                    spool.write(piece)
        except OSError as error:
            raise Usage(f"{file} cannot be read: {error.strerror or error}") from error
        yield spool


def _lines_of(spool: IO[bytes], plan: DeskPlan) -> Lines:
    def lines() -> Iterable[Line]:
        spool.seek(0)
        number = 0
        while value := spool.readline(LINE_BYTES_MAX + 1):
            number += 1
            where = f"line {number}"
            if len(value) > LINE_BYTES_MAX:
                yield Line(where, None, (f"is longer than the {LINE_BYTES_MAX:,} bytes that are read",))
                while value and not value.endswith(b"\n"):
                    value = spool.readline(LINE_BYTES_MAX)
            elif value.strip():
                yield line_from_bytes(value, where, run=plan.run, body_bytes_max=plan.body_bytes_max)

    return lines


def _taken(desk: Desk, lines: Lines, *, with_late: bool) -> Receipt:
    try:
        return desk.take(lines, with_late=with_late)
    except Rejected as rejected:
        hint = "; --late writes them all the same" if rejected.is_late else ""
        raise Usage(f"nothing was written{hint}:\n{rejected}") from rejected
