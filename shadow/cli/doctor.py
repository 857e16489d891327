"""`shadow doctor`: what is reachable, and what is wrong, one line each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import orjson
import typer
from rich.console import Console
from rich.text import Text

from shadow.adapters.kafka import KafkaLog
from shadow.adapters.logs import configure
from shadow.adapters.webhook import checked, resolved
from shadow.cli import wiring
from shadow.cli.exits import BROKEN, DONE, checked_output, exiting
from shadow.cli.notify import target_of
from shadow.cli.safety import EVIDENCE, topic_faults, topic_risks, unequal
from shadow.errors import Unavailable, Usage
from shadow.ports import TopicState
from shadow.settings.settings import Settings

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
CONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        is_right: None where it could not be looked at.
    """

    subject: str
    is_right: bool | None
    text: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(doctor))


def doctor(
    config: Config = Path("shadow.yaml"),
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> int:
    """Say what is reachable and what is wrong: configuration, Kafka, its topics, Redis, the models, who is told."""
    checked_output(output)
    configure("text", "error")
    settings = wiring.settings_from(config)
    findings = [Finding("configuration", True, f"{config}: right"), *_kafka(settings), *_redis(settings)]
    findings += [*_models(settings), *endpoint_findings(settings)]
    if output == "json":
        rows = [{"subject": each.subject, "right": each.is_right, "text": each.text} for each in findings]
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        console = Console(highlight=False, soft_wrap=True)
        for each in findings:
            mark, style = {True: ("right  ", "green"), False: ("wrong  ", "bold red"), None: ("unknown", "yellow")}[
                each.is_right
            ]
            console.print(Text.assemble((mark, style), f"  {each.subject}: {each.text}"))
    return DONE if all(each.is_right for each in findings) else BROKEN


def _kafka(settings: Settings) -> Iterator[Finding]:
    try:
        log = wiring.open_log(settings)
        admin = log.admin()
    except (Usage, Unavailable) as trouble:
        yield Finding("kafka", False, str(trouble))
        return
    try:
        states = {kind: admin.topic(name) for kind, name in wiring.topic_names(settings).items()}
    except Unavailable as trouble:
        yield Finding("kafka", False, str(trouble))
        return
    finally:
        admin.close()
    yield Finding("kafka", True, "answers")
    yield from _topics(settings, log, states)


def _topics(settings: Settings, log: KafkaLog, states: dict[str, TopicState | None]) -> Iterator[Finding]:
    names = wiring.topic_names(settings)
    for kind, state in states.items():
        if state is None:
            yield Finding(names[kind], False, "does not exist; `shadow start` creates it")
            continue
        problems = list(_topic_problems(settings, kind, state)) if log.is_log_append_time else []
        yield Finding(names[kind], not problems, "; ".join(problems) or f"{state.partitions} partitions")
    requests, answers = states["requests"], states["answers"]
    if requests is not None and answers is not None and requests.partitions != answers.partitions:
        yield Finding("partitions", False, unequal(settings, requests.partitions, answers.partitions))


def _topic_problems(settings: Settings, kind: str, state: TopicState) -> Iterator[str]:
    if kind in ("requests", "answers"):
        yield from topic_faults(settings, wiring.topic_names(settings)[kind], state)
    if kind in EVIDENCE:
        for risk in topic_risks(state):
            yield f"{risk} (`shadow start` takes it with --unsafe only)"
    if kind == "decisions" and state.partitions != 1:
        yield f"has {state.partitions} partitions, must have 1"


def _redis(settings: Settings) -> Iterator[Finding]:
    try:
        store = wiring.open_store(settings)
        problems = store.problems()
        store.close()
    except (Usage, Unavailable) as trouble:
        yield Finding("redis", False, str(trouble))
        return
    yield Finding("redis", not problems, "; ".join(problems) or "answers; never evicts")


def _models(settings: Settings) -> Iterator[Finding]:
    urls = settings.proxy.upstream
    addresses = {"proxy.upstream" if len(urls) == 1 else f"proxy.upstream[{at}]": url for at, url in enumerate(urls)}
    for role, worker in settings.workers.items():
        if worker.url is not None:
            addresses[f"workers.{role}"] = str(worker.url)
    for spec in settings.grader_specs():
        if "url" in spec.params:
            addresses[f"graders.{spec.name}"] = str(spec.params["url"])
    for subject, address in addresses.items():
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with socket.create_connection((parts.hostname or "", port), CONNECT_S):
                yield Finding(subject, True, f"{address} accepts connections")
        except OSError as error:
            yield Finding(subject, False, f"{address} cannot be reached: {error.strerror or error}")


def endpoint_findings(settings: Settings) -> Iterator[Finding]:
    """Who is told: secrets that are there, and names that lead to allowed addresses. Nothing is sent."""
    for name, endpoint in settings.notify.endpoints.items() if settings.notify is not None else ():
        parts = urlsplit(endpoint.url)
        host, subject = parts.hostname or "", f"notify.endpoints.{name}"
        try:
            target = target_of(name, endpoint)
            addresses = checked(target, host, asyncio.run(resolved(host, parts.port or 443)))
        except (Usage, OSError) as trouble:
            said = trouble.strerror if isinstance(trouble, OSError) and trouble.strerror else str(trouble)
            yield Finding(subject, False, said if host in said or subject in said else f"{host}: {said}")
            continue
        yield Finding(subject, True, f"{host} is {', '.join(map(str, addresses))}")
