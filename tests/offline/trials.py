"""Small suites and models for the tests of the offline stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml

from shadow.adapters.suites import write_suite
from shadow.suite.lines import SuiteRequest
from tests.cli.conftest import configuration

RULES: list[dict[str, Any]] = [
    {"no_regression": {"grader": "correct", "margin": 0.2}},
    {"floor": {"grader": "tagged", "min": 0.8}},
]


def requests_of(count: int) -> tuple[SuiteRequest, ...]:
    """Distinct requests to double a number, each of a session of its own."""
    return tuple(
        SuiteRequest(
            request_id=f"r{n:03d}",
            key=f"session-{n}",
            method="POST",
            path="/v1/double",
            headers={"content-type": "application/json"},
            body=orjson.dumps({"n": n, "even": n % 2 == 0}),
            expected={"$.metadata.answer": str(2 * n)},
        )
        for n in range(count)
    )


def suite_in(folder: Path, requests: Sequence[SuiteRequest], name: str = "doubling") -> Path:
    """A suite of these requests."""
    write_suite(folder, name, tuple(requests), {}, None)
    return folder


def doubling(wrong: Callable[[int], bool] = lambda _: False) -> Callable[[dict[str, Any]], Any]:
    """A model that doubles a number, wrong where it is told so."""

    def reply(body: dict[str, Any]) -> Any:
        assert "metadata" not in body, "no model is shown what is expected"
        return {"answer": f"<answer>{2 * body['n'] + wrong(body['n'])}</answer>"}

    return reply


def doubled_here(request: dict[str, Any]) -> Any:
    """The same as a function of a worker."""
    return {"answer": f"<answer>{2 * request['json']['n']}</answer>"}


def every_other_time() -> Callable[[int], bool]:
    """Wrong about the numbers below 3, at every other time that it is asked about them."""
    asked = {n: itertools.count() for n in range(3)}
    return lambda n: n in asked and next(asked[n]) % 2 == 1


def configured(folder: Path, production: str, candidate: str, bootstrap: str = "embedded", **offline: Any) -> Path:
    """A configuration with an offline stage."""
    tree = configuration(bootstrap, "embedded")
    tree["workers"] = {
        role: {"url": url, "deadline": "5s"} for role, url in (("production", production), ("candidate", candidate))
    }
    tree["stages"]["offline"] = {"rules": RULES, **offline}
    path = folder / "shadow.yaml"
    path.write_text(yaml.safe_dump(orjson.loads(orjson.dumps(tree)), sort_keys=False))
    return path
