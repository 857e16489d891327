"""`shadow doctor`: what is reachable, and what is wrong, one line each."""

from __future__ import annotations

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
from shadow.cli import wiring
from shadow.cli.exits import BROKEN, DONE, checked_output, exiting
from shadow.cli.safety import EVIDENCE
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
    """Say what is reachable and what is wrong: configuration, Kafka, its topics, Redis, the models."""
    checked_output(output)
    configure("text", "error")
    settings = wiring.settings_from(config)
    findings = [Finding("configuration", True, f"{config}: right"), *_kafka(settings), *_redis(settings)]
    findings += _models(settings)
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
        yield Finding(
            "partitions",
            False,
            f"{names['requests']} has {requests.partitions} and {names['answers']} {answers.partitions}; "
            "they must have equally many",
        )


def _topic_problems(settings: Settings, kind: str, state: TopicState) -> Iterator[str]:
    config = state.config
    if kind in ("requests", "answers"):
        stamp = config.get("message.timestamp.type")
        if stamp is not None and stamp != "LogAppendTime":
            yield f"message.timestamp.type is {stamp}, must be LogAppendTime"
        least = 4 * settings.proxy.mirror.body_max
        largest = int(config.get("max.message.bytes", least))
        if largest < least:
            yield f"max.message.bytes is {largest}, must be at least {least} (4 x body_max)"
        if config.get("retention.bytes", "-1") != "-1":
            yield f"retention.bytes is {config['retention.bytes']}, must be -1"
        policy = settings.policy()
        longest_us = max(policy.deadline_us(name) for name in policy.comparisons)
        needed_ms = policy.expires_s * 1000 + longest_us // 1000
        kept_ms = int(config.get("retention.ms", "-1"))
        if 0 <= kept_ms < needed_ms:
            yield f"retention.ms is {kept_ms}, must cover the longest age and deadline: {needed_ms}"
    if kind in EVIDENCE and state.replicas == 1:
        yield "has replication factor 1, so one lost disk loses evidence; `shadow start` takes it with --unsafe only"
    if config.get("unclean.leader.election.enable") == "true":
        yield "unclean.leader.election.enable is true, must be false"
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
    addresses = {"proxy.upstream": str(settings.proxy.upstream)}
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
