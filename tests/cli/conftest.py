"""A configuration of its own for each test, and the command line as a real process."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadow.adapters.embedded import free_port
from shadow.cli.supervise import shadow_command


class CommandLine:
    """Runs `shadow` in a folder, with a state of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}

    def __call__(self, *arguments: str, through: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a traceback fails the test whatever the test is about.

        Args:
            through: Words of a program that runs the command.
        """
        done = subprocess.run(
            [*through, *shadow_command(*arguments)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode != 1, done.stderr
        return done


@pytest.fixture
def shadow(tmp_path: Path) -> CommandLine:
    """The command line in the test's folder."""
    return CommandLine(tmp_path)


def configuration(bootstrap: str, redis_url: str, **changes: Any) -> dict[str, Any]:
    """A small valid configuration with topics and ports of its own."""
    token = uuid.uuid4().hex[:8]
    services = {
        "kafka": "embedded" if bootstrap == "embedded" else {"bootstrap.servers": bootstrap},
        "redis": "embedded" if redis_url == "embedded" else {"url": redis_url},
    }
    kinds = ("requests", "answers", "pairs", "decisions")
    return {
        "run": {"candidate": f"candidate-{token}", "production": "production-1"},
        **services,
        "topics": {**{k: f"{k}-{token}" for k in kinds}, "dead_letters": f"dead-letters-{token}", "partitions": 2},
        "tile": "1s",
        "evidence_deadline": "30s",
        "admin": {name: free_port() for name in ("proxy", "worker", "comparator", "gate")},
        "proxy": {
            "listen": f"127.0.0.1:{free_port()}",
            "upstream": f"http://127.0.0.1:{free_port()}",
            "mirror": {"sample": 1.0, "methods": ["POST"], "paths": ["/v1/*"], "report_interval": "500ms"},
        },
        "workers": {"candidate": {"url": f"http://127.0.0.1:{free_port()}", "deadline": "1s"}},
        "slices": {"even": {"json": {"$.even": True}}},
        "graders": {
            "correct": {"kind": "numeric", "tag": "answer", "expected": "json:$.metadata.answer"},
            "tagged": {"kind": "answer_tag", "tag": "answer"},
        },
        "expires": "1d",
        "stages": {
            "shadow": {
                "needs": {"pairs": 5000, "within": "24h", "slice_pairs": 1250, "coverage": 0.98},
                "rules": [
                    {"quality": {"graders": {"correct": 1.0}, "margin": 0.03}},
                    {"floor": {"grader": "tagged", "min": 0.95}},
                ],
            }
        },
        **changes,
    }


def written(folder: Path, tree: dict[str, Any]) -> Path:
    """The configuration as a file."""
    path = folder / "shadow.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path
