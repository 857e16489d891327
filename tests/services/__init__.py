"""Real services for the tests: Apache Kafka and redis-server, each a child process on a loopback port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import pytest


class ServiceMissing(Exception):
    """A service cannot be had on this machine; the text is one line for a person."""


def unavailable(service: str, reason: str, environ: Mapping[str, str]) -> NoReturn:
    """Skip the test that asked for a service, or fail it where `CI` is set: there, nothing may be left out."""
    text = f"no {service}: {reason}"
    if environ.get("CI"):
        pytest.fail(f"{text} (CI is set, so this is a failure)", pytrace=False)
    pytest.skip(text)
