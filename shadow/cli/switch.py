"""`shadow off` and `shadow on`: the kill switch of the proxies, which needs neither Kafka nor Redis nor the gate."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from shadow.cli import wiring
from shadow.cli.exits import exiting
from shadow.errors import Unavailable, Usage
from shadow.settings.names import address_of
from shadow.settings.settings import Settings

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
Proxies = Annotated[
    list[str] | None,
    typer.Option("--proxy", help="Admin address of a proxy, host:port; once for each. Else the configured one."),
]

ANSWER_S = 5.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (off, on):
        app.command()(exiting(command))


def off(config: Config = Path("shadow.yaml"), proxy: Proxies = None) -> int:
    """Copy nothing, and let production serve every session; live requests go on. Needs the proxies only."""
    return _switch(config, proxy, "off")


def on(config: Config = Path("shadow.yaml"), proxy: Proxies = None) -> int:
    """Copy and route again, as the configuration and the newest decision say."""
    return _switch(config, proxy, "on")


def _switch(config: Path, proxies: list[str] | None, word: str) -> int:
    settings = wiring.settings_from(config)
    failed = []
    for address in proxies or [f"{settings.admin.host}:{settings.admin.proxy}"]:
        if address_of(address) is None:
            raise Usage(f"--proxy: read {address!r}, must be host:port, such as 10.0.0.7:9101")
        try:
            _ask(settings, address, word)
        except OSError as error:
            failed.append(f"{address} is not switched {word}: {_sentence(error)}")
        else:
            typer.echo(f"{address} is {word}")
    if failed:
        raise Unavailable("; ".join(failed))
    return 0


def _ask(settings: Settings, address: str, word: str) -> None:
    token = settings.admin.bearer()
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://{address}/v1/{word}", b"", headers, method="POST")
    # A proxy of the environment must not stand between an on-call person and the kill switch.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=ANSWER_S) as answer:
        answer.read()


def _sentence(error: OSError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        try:
            return str(json.loads(error.read())["error"])
        except (ValueError, KeyError, TypeError):
            return f"it answers {error.code}; is it the admin port of a proxy?"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(reason, "strerror", None) or reason or "no answer")
