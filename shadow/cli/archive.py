"""Write a run to files from which it can be replayed when Kafka has forgotten it."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console

from shadow.adapters.archive import (
    ANSWERS,
    FILES,
    PAIRS,
    REQUESTS,
    Archive,
    Manifest,
    file_of,
    manifest_to_bytes,
    parquet,
    part_of,
)
from shadow.adapters.archive_writer import PairFile, RecordFile, facts_of, finish, prepare, writing
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import found_run, runs_of, transactional_id
from shadow.cli.exits import BROKEN, DONE, checked_output, exiting
from shadow.cli.replay_compare import Comparison, compare_decisions
from shadow.cli.replay_log import Reading, ends_of, patiently
from shadow.cli.replay_run import Replay, Replayed, ReplayPlan, Taps
from shadow.cli.replay_shown import progress_bar
from shadow.errors import BrokenEvidence, Usage
from shadow.gate.history import Run
from shadow.ports import Log, LogAdmin
from shadow.records.comparisons import ROLES_BY_COMPARISON
from shadow.settings.loader import settings_from_bytes
from shadow.settings.problems import is_secret
from shadow.settings.settings import Settings
from shadow.settings.tree import tree_from_bytes

GRACE_US: Final = 60_000_000
"""How long after its decision a run's records are archived: the clocks of gate and broker may differ."""
HIDDEN: Final = "env:ARCHIVED"
"""What stands in an archive where a secret may have stood."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(archive))


def archive(
    run: Annotated[str, typer.Argument(help="Name of the run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the archive; made if it is not there.", metavar="DIR")],
    config: Annotated[Path, typer.Option("--config", "-c", help="The run's configuration.", metavar="FILE")] = Path(
        "shadow.yaml"
    ),
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> int:
    """Write a run's records, graded pairs and decisions to Parquet, and replay them once from there."""
    checked_output(output)
    configure("text", "error")
    settings = wiring.settings_from(config)
    parquet()
    log = wiring.open_log(settings)
    with closing(log.decisions(settings.topics.decisions, transactional_id(settings))) as writer:
        found = found_run(runs_of(writer), run, settings)
    if settings.digest() != found.started.digest:
        raise Usage(
            f"the run {run} began with the configuration {found.started.digest[:12]}, and {config} is "
            f"{settings.digest()[:12]}; give the run's own with -c"
        )
    archived = write_archive(log, settings, found, out, public_configuration(config.read_bytes(), settings))
    if output == "json":
        typer.echo(orjson.dumps(_document(archived, out), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(archived, out)
    return BROKEN if archived.trouble else DONE


@dataclass(frozen=True, slots=True)
class Archived:
    """What was written.

    Args:
        trouble: What a replay of the archive found wrong with the run; empty if nothing.
    """

    manifest: Manifest
    trouble: tuple[str, ...]


def write_archive(log: Log, settings: Settings, run: Run, out: Path, configuration: str) -> Archived:
    """Write an archive and replay it; run.json comes last, so that a folder without one is no archive.

    What the replay finds wrong is said, and the records are kept all the same: they are what there is.

    Args:
        configuration: What run.json says of the configuration (`public_configuration`).

    Raises:
        BrokenEvidence: If the log does not hold the run's answers any more.
        Usage: If the folder holds something else.
    """
    prepare(out, run.name)
    topics = {ANSWERS: settings.topics.answers, REQUESTS: settings.topics.requests}
    parts = {kind: part_of(file_of(out, kind)) for kind in FILES}
    with writing(out):
        with closing(log.admin()) as admin:
            answers = _copy(log, admin, run, topics[ANSWERS], run.started.answers_from, parts[ANSWERS])
            kept = _still_there(admin, topics[REQUESTS], run.started.requests_from)
            requests = _copy(log, admin, run, topics[REQUESTS], kept, parts[REQUESTS])
        ranges = {ANSWERS: answers.ranges, REQUESTS: requests.ranges}
        found, pairs, trouble = _replayed(Archive(out, topics, ranges, parts), settings, run, topics, parts[PAIRS])
        manifest = Manifest(
            started=run.started,
            decisions=run.decisions,
            commands=run.commands,
            obeyed=run.obeyed,
            configuration=configuration,
            topics=topics,
            ranges=ranges,
            replayed=_facts(found, trouble),
            versions={"python": platform.python_version()}
            | {name: version(name) for name in ("shadow-canary", "pyarrow")},
            files={
                kind: facts_of(parts[kind], rows)
                for kind, rows in ((ANSWERS, answers.rows), (REQUESTS, requests.rows), (PAIRS, pairs))
            },
        )
        finish(out, manifest_to_bytes(manifest))
    return Archived(manifest, trouble)


def _facts(found: Replayed, trouble: Sequence[str]) -> dict[str, Any]:
    """What run.json says of the replay."""
    return {
        "tile": found.state.folded,
        "tiles_digest": found.state.tiles_digest.hex(),
        "pairs": found.pairs,
        "records": found.records,
        "unreadable": found.unreadable_count,
        "trouble": list(trouble),
    }


@dataclass(frozen=True, slots=True)
class _Copied:
    ranges: list[tuple[int, int]]
    rows: int


def _copy(log: Log, admin: LogAdmin, run: Run, topic: str, begin: Sequence[int], path: Path) -> _Copied:
    """Copy a topic's part of the run, partition by partition without a hole."""
    ends = _ends(admin, run, topic, begin)
    file = RecordFile(path)
    total = sum(ends) - sum(begin)
    with closing(log.reader()) as reader, closing(file), progress_bar(f"copy {topic}") as progress:
        reading = Reading(reader, topic, begin, ends)
        expected = list(begin)
        while records := reading.records():
            for record in records:
                if record.offset != expected[record.partition]:
                    place = f"{topic}/{record.partition}"
                    gap = f"{expected[record.partition]} to {record.offset - 1}"
                    raise BrokenEvidence(f"{place}: offsets {gap} are missing from the log")
                expected[record.partition] = record.offset + 1
                file.add(record)
            progress(sum(expected) - sum(begin), total)
    return _Copied(list(zip(begin, ends, strict=True)), file.rows)


def _ends(admin: LogAdmin, run: Run, topic: str, begin: Sequence[int]) -> list[int]:
    """Where the run's part of a topic ends: now, or a little after the decision that ended it."""
    ends = ends_of(admin, topic, begin)
    if not run.is_finished:
        return ends
    over_us = run.decisions[-1].decided_us + GRACE_US

    def over(partition: int) -> int:
        return patiently(lambda: admin.offset_at(topic, partition, over_us))

    return [max(begin[each], min(end, over(each))) for each, end in enumerate(ends)]


def _still_there(admin: LogAdmin, topic: str, begin: Sequence[int]) -> list[int]:
    """First request offsets: most requests stand in the answers too, so it is no hole if the oldest are gone."""
    bounds = patiently(lambda: admin.ends(topic))
    return [max(position, first) for position, (first, _) in zip(begin, bounds, strict=False)]


def _replayed(
    source: Archive, settings: Settings, run: Run, topics: dict[str, str], pairs: Path
) -> tuple[Replayed, int, tuple[str, ...]]:
    """Replay the archive, and write its graded pairs. Returns what was found, the pairs and what is wrong."""
    recorded = run.decisions
    policy = settings.policy()
    roles = list(dict.fromkeys(role for name in policy.comparisons for role in ROLES_BY_COMPARISON[name]))
    file = PairFile(pairs, [spec.name for spec in settings.grader_specs()], roles)
    plan = ReplayPlan(
        settings,
        run.started,
        topics[ANSWERS],
        topics[REQUESTS],
        first=run.started.first_tile,
        recorded=recorded,
        run=run,
    )
    with closing(file), progress_bar("replay") as progress:
        found = Replay(plan, source, Taps(pair=file.add, progress=progress)).run()
    comparison = Comparison()
    for decision in recorded if not found.broken else ():
        compare_decisions(decision, found.recomputed.get(decision.step), comparison)
    trouble = [found.broken] if found.broken else []
    return found, file.rows, (*trouble, *(difference.sentence for difference in comparison.differences))


def public_configuration(content: bytes, settings: Settings) -> str:
    """A configuration that counts and judges the same, without addresses of services and without secrets.

    Raises:
        Usage: If the file was changed since it was loaded.
    """
    tree = tree_from_bytes(content).root
    tree["kafka"] = tree["redis"] = "embedded"
    text = json.dumps(_hidden(tree, ()), indent=1)
    if settings_from_bytes(text.encode(), {}).digest() != settings.digest():
        raise Usage("the configuration was changed while it was read; try again")
    return text


def _hidden(value: Any, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, str) and is_secret(path):
        return HIDDEN
    if isinstance(value, str) and "://" in value and "@" in value:
        return f"{value.partition('://')[0]}://{value.rpartition('@')[2]}"
    return value


def _document(archived: Archived, out: Path) -> dict[str, Any]:
    manifest = archived.manifest
    return {
        "run": manifest.started.run,
        "folder": str(out),
        "files": manifest.files,
        "replayed": manifest.replayed,
        "trouble": list(archived.trouble),
    }


def _print(archived: Archived, out: Path) -> None:
    console = Console(highlight=False, soft_wrap=True)
    files, replayed = archived.manifest.files, archived.manifest.replayed
    for kind, facts in files.items():
        console.print(f"{file_of(out, kind)}  {facts['rows']:,} rows, {facts['bytes']:,} bytes")
    for sentence in archived.trouble:
        console.print(sentence, style="bold red", markup=False)
    console.print(f"replayed from there up to tile {replayed['tile']}: digest {replayed['tiles_digest']}")
