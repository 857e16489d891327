"""An ingest in a thread of its own, made from a configuration, and clients that speak raw bytes to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from shadow.adapters.avro import encode
from shadow.cli.proxies import ingest_settings
from shadow.proxy.ingest import Ingest
from shadow.settings.loader import settings_from_bytes
from shadow.settings.settings import Settings
from tests.cli.conftest import configuration
from tests.proxy.kit import PARTITIONS, Loop, RecordingWriter, Running

ACCEPTED = "HTTP/1.1 202 Accepted"
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples" / "ingest"
RECORDED = Path(__file__).parent / "recorded"


def example(text: str, ports: Mapping[str, int]) -> str:
    """An example's text with other ports in the place of those that stand in it."""
    for written in ports:
        assert re.search(rf"\b{written}\b", text), f"{written} does not stand in the example"
    return re.sub(rf"\b(?:{'|'.join(ports)})\b", lambda found: str(ports[found[0]]), text)


def settings_of(**changes: Any) -> Settings:
    """A configuration with an ingest on a free port, which copies everything.

    Args:
        changes: Of `proxy.mirror`, but for `redact` and `slices`.
    """
    mirror = {"sample": 1.0, "methods": ["GET", "POST", "HEAD"], "paths": ["/*"], "report_interval": "1min"}
    tree = configuration("embedded", "embedded", ingest={"listen": "127.0.0.1:0"})
    tree["topics"] = {}  # the names that the recording writer knows
    tree["workers"]["production"] = {"url": "http://127.0.0.1:1", "deadline": "1s"}
    tree["proxy"]["redact"] = changes.pop("redact", {})
    tree["slices"] |= changes.pop("slices", {})
    tree["proxy"]["mirror"] = mirror | changes
    return settings_from_bytes(yaml.safe_dump(tree).encode(), {})


@contextmanager
def taking(
    *,
    limits: Mapping[str, int] | None = None,
    timeouts: Mapping[str, float] | None = None,
    writer: RecordingWriter | None = None,
    partitions: Callable[[], int | None] = lambda: PARTITIONS,
    **changes: Any,
) -> Iterator[Running]:
    """Run an ingest.

    Args:
        changes: As `settings_of` takes them.
    """
    settings = ingest_settings(settings_of(**changes))
    settings = replace(
        settings,
        process="ingest-1",
        limits=replace(settings.limits, **(limits or {})),
        timeouts=replace(settings.timeouts, **({"linger_s": 0.2} | dict(timeouts or {}))),
    )
    writer = writer or RecordingWriter()
    ingest = Ingest(settings, writer=writer, encode=encode, partitions=partitions)
    loop = Loop()
    loop.call(ingest.start())
    alive = Running(ingest, loop, writer)
    try:
        yield alive
    finally:
        if not alive.is_drained:
            alive.drain(1.0)
        loop.close()
