"""Commands that need no services: evaluate evidence, check a configuration, write a first one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadow.cli import wiring
from shadow.cli.display import DECISIONS, rules_table
from shadow.cli.exits import BROKEN, BY_DECISION, DONE, checked_output, exiting
from shadow.errors import Usage
from shadow.gate.evidence import evidence_from_json
from shadow.gate.judgement import Judgement, judgement_to_json
from shadow.gate.rules import judge
from shadow.records.policy import Policy
from shadow.settings.template import first_configuration

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]

EXPECTATION = ".expect.json"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (evaluate, check, init):
        app.command()(exiting(command))


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evidence file, judged."""

    path: Path
    judgement: Judgement
    expected: str | None


def evaluate(
    evidence: Annotated[Path, typer.Option("--evidence", help="An evidence file, or a directory of them.")],
    config: Config = Path("shadow.yaml"),
    output: Output = "table",
) -> int:
    """Judge given totals by the configuration's shadow stage; no services needed.

    Of a directory each NAME.json is judged; where a NAME.expect.json stands beside it, its `decision` must be met.
    """
    checked_output(output)
    policy = wiring.settings_from(config).policy()
    if not evidence.is_dir():
        found = _evaluated(evidence, policy)
        _show_one(found.judgement, output)
        return BY_DECISION[found.judgement.decision]
    paths = sorted(path for path in evidence.glob("*.json") if not path.name.endswith(EXPECTATION))
    if not paths:
        raise Usage(f"{evidence} holds no evidence files (*.json)")
    results = [_evaluated(path, policy) for path in paths]
    _show_all(results, output)
    return DONE if all(each.expected in (None, each.judgement.decision) for each in results) else BROKEN


def _evaluated(path: Path, policy: Policy) -> Evaluated:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}") from error
    try:
        evidence = evidence_from_json(content)
    except Usage as error:
        raise Usage(f"{path}: {error}") from error
    stage = policy.stages[0]
    tiles = -(-policy.expires_s * 1_000_000 // policy.tile_us)
    judgement = judge(stage, evidence, expires_s=policy.expires_s, tiles_longest_age=tiles)
    return Evaluated(path, judgement, _expectation(path))


def _expectation(path: Path) -> str | None:
    beside = path.with_name(path.stem + EXPECTATION)
    if not beside.exists():
        return None
    try:
        expected = orjson.loads(beside.read_bytes())["decision"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Usage(f'{beside}: must be an object like {{"decision": "hold"}} ({error})') from error
    return str(expected)


def _show_one(judgement: Judgement, output: str) -> None:
    tree = judgement_to_json(judgement)
    if output == "json":
        typer.echo(orjson.dumps(tree, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console(highlight=False)
    console.print(rules_table(tree))
    unmet = [condition.reason for condition in judgement.conditions if not condition.is_met]
    for reason in unmet:
        console.print(Text(f"holds: {reason}", style="yellow"))
    console.print(Text(f"{judgement.decision}: {judgement.reason}", style=DECISIONS[judgement.decision]))
    if judgement.culprits:
        console.print(f"culprits: {', '.join(judgement.culprits)}")


def _show_all(results: list[Evaluated], output: str) -> None:
    if output == "json":
        rows: list[dict[str, Any]] = [
            {"file": each.path.name, "expected": each.expected, **judgement_to_json(each.judgement)} for each in results
        ]
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table(box=None, header_style="dim")
    for name in ("evidence", "decision", "expected", "reason"):
        table.add_column(name, overflow="fold")
    for each in results:
        decision = each.judgement.decision
        is_met = each.expected in (None, decision)
        table.add_row(
            each.path.name,
            Text(decision, style=DECISIONS[decision]),
            Text(each.expected or "–", style="" if is_met else "bold red"),
            each.judgement.reason,
        )
    Console(highlight=False).print(table)


def check(config: Config = Path("shadow.yaml")) -> int:
    """Validate a configuration; every problem is named with its line."""
    settings = wiring.settings_from(config)
    rules = sum(len(stage.rules) for stage in settings.policy().stages)
    typer.echo(
        f"{config}: right; {len(settings.slice_specs())} slices, {len(settings.grader_specs())} graders, "
        f"{rules} rules, digest {settings.digest()[:12]}"
    )
    return DONE


def init(
    production_url: Annotated[str, typer.Argument(help="Where production listens, http://host:port.")],
    candidate_url: Annotated[str, typer.Argument(help="Where the candidate listens, http://host:port.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("shadow.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> int:
    """Write a first shadow.yaml with comments."""
    if out.exists() and not force:
        raise Usage(f"{out} exists; give --force to write over it, or --out for another name")
    out.write_text(first_configuration(production_url, candidate_url))
    typer.echo(f"{out} written; `shadow check -c {out}` validates it, `shadow up -c {out}` runs everything here")
    return DONE
