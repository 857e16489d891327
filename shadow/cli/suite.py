"""`shadow suite`: draw a frozen suite from recorded requests, pin one that people wrote, and check one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from shadow.adapters.content import request_in
from shadow.adapters.logs import configure
from shadow.adapters.suites import read_suite, seal, write_suite
from shadow.cli import wiring
from shadow.cli.begin import runs_of, transactional_id
from shadow.cli.exits import DONE, checked_output, exiting
from shadow.desk.scan import bounds, scan
from shadow.errors import Usage
from shadow.gate.history import Run
from shadow.graders.expected import PREFIX
from shadow.jsonpath import JsonPath
from shadow.ports import Log
from shadow.settings.settings import Settings
from shadow.stream.slice import Slicer
from shadow.suite.draw import Draw, Drawn
from shadow.suite.lines import request_from_mirrored
from shadow.suite.manifest import Manifest, is_name

Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]
Name = Annotated[str, typer.Option("--name", help="Name of the suite.")]
Folder = Annotated[Path, typer.Argument(help="Folder of the suite.", metavar="SUITE")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(name="suite", help="Make frozen suites of requests for `shadow offline`.", no_args_is_help=True)
    for command in (make, seal_, check):
        group.command(command.__name__.rstrip("_"))(exiting(command))
    app.add_typer(group)


def make(
    run: Annotated[
        str | None, typer.Argument(help="Name of the run; the newest of the configuration by default.", metavar="[RUN]")
    ] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")] = Path(
        "shadow.yaml"
    ),
    out: Annotated[Path, typer.Option("--out", help="Folder of the new suite.", metavar="DIR")] = Path("suite"),
    size: Annotated[int, typer.Option("--size", help="Most requests.", min=1, max=1_000_000)] = 1000,
    per_slice: Annotated[
        int | None,
        typer.Option("--per-slice", help="Requests of each slice; an equal share of the size by default.", min=0),
    ] = None,
    retrieval: Annotated[
        Path | None, typer.Option("--retrieval", help="Folder to copy as the retrieval snapshot.", metavar="DIR")
    ] = None,
    name: Name = "suite",
    seed: Annotated[str, typer.Option("--seed", help="Another one draws other requests.")] = "1",
    output: Output = "table",
) -> int:
    """Draw a suite from a run's requests: by slice, each content once, one request a session."""
    checked_output(output)
    configure("text", "error")
    if not is_name(name):
        raise Usage(f"--name: read {name!r}, must be 1 to 64 of A-Z, a-z, 0-9, ., _ and -")
    settings = wiring.settings_from(config)
    slices = [spec.name for spec in settings.slice_specs()]
    wanted = size // (len(slices) + 1) if per_slice is None else per_slice
    if wanted > size:
        raise Usage(f"--per-slice: read {wanted:,}, must be at most the size, which is {size:,}")
    log = wiring.open_log(settings)
    source = _run(log, settings, run)
    drawn = draw_from(log, settings, source, Draw(size, wanted, slices, seed))
    if not drawn.requests:
        raise Usage(f"the run {source.name} has no request in {settings.topics.requests} that can be read")
    origin = {"run": source.name, "seed": seed, "size": size, "per_slice": wanted, "seen": drawn.seen}
    manifest = write_suite(out, name, drawn.requests, origin, retrieval)
    _show_made(manifest, drawn, out, wanted, output)
    return DONE


def seal_(
    suite: Folder,
    name: Name = "suite",
    output: Output = "table",
) -> int:
    """Pin every file of a folder with a requests.jsonl by its SHA-256; a new manifest makes another suite."""
    checked_output(output)
    manifest = seal(suite, name, {"sealed": True})
    _show_sealed(manifest, suite, output)
    return DONE


def check(suite: Folder, output: Output = "table") -> int:
    """Check every byte of a suite against its manifest."""
    checked_output(output)
    _show_sealed(read_suite(suite).manifest, suite, output)
    return DONE


def draw_from(log: Log, settings: Settings, run: Run, draw: Draw) -> Drawn:
    """Draw from the requests that stand in the topic since a run's beginning.

    Raises:
        Unavailable: If the log does not answer.
    """
    topic, slicer = settings.topics.requests, Slicer(settings.slice_specs())
    expected = {path.text: path for path in _expected_paths(settings)}
    with closing(log.admin()) as admin, closing(log.reader()) as reader:
        for record in scan(reader, topic, bounds(admin, topic, run.started.requests_from)):
            request = request_in(record)
            if request is not None:
                draw.offer(request_from_mirrored(request, expected), slicer.slices_of(request))
    return draw.drawn()


def _expected_paths(settings: Settings) -> list[JsonPath]:
    """Plain paths at which graders look for the expected answer in a request."""
    found = []
    for spec in settings.grader_specs():
        text = spec.params.get("expected")
        if isinstance(text, str) and text.startswith(PREFIX):
            path = JsonPath(text.removeprefix(PREFIX))
            if path.steps:
                found.append(path)
    return found


def _run(log: Log, settings: Settings, name: str | None) -> Run:
    with closing(log.decisions(settings.topics.decisions, transactional_id(settings))) as writer:
        known = runs_of(writer)
    wanted = [run for run in known if (run.name == name if name else run.started.digest == settings.digest())]
    if wanted:
        return wanted[-1]
    names = ", ".join(run.name for run in known) or "none"
    if name is None:
        raise Usage(f"no run has this configuration, so name the run whose requests are drawn; known are {names}")
    raise Usage(f"no run is named {name!r}; known are {names}")


def _show_made(manifest: Manifest, drawn: Drawn, out: Path, wanted: int, output: str) -> None:
    if output == "json":
        _print_json({"folder": str(out), **_document(manifest), "by_slice": drawn.by_slice, "seen": drawn.seen})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{out}: {len(drawn.requests):,} requests of {drawn.seen:,} seen, digest {manifest.digest}")
    for name, count in drawn.by_slice.items():
        short = f", {wanted:,} were wanted" if name != "all" and count < wanted else ""
        console.print(f"  {name}: {count:,}{short}", style="yellow" if short else None)


def _show_sealed(manifest: Manifest, folder: Path, output: str) -> None:
    if output == "json":
        _print_json({"folder": str(folder), **_document(manifest)})
        return
    Console(highlight=False, soft_wrap=True).print(
        f"{folder}: suite {manifest.name}, {len(manifest.files):,} files as pinned, digest {manifest.digest}"
    )


def _document(manifest: Manifest) -> dict[str, Any]:
    files = {path: {"sha256": each.sha256, "bytes": each.bytes} for path, each in manifest.files.items()}
    return {"name": manifest.name, "digest": manifest.digest, "origin": dict(manifest.origin), "files": files}


def _print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
