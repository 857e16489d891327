"""The built wheel in an empty environment, outside the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of an environment that holds the wheel and nothing of the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, env=with_uv())
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    install = ["uv", "pip", "install", "--quiet", "--python", str(python), f"{wheel}[embedded,examples]"]
    subprocess.run(install, check=True, capture_output=True, env=with_uv())
    return folder


def with_uv() -> dict[str, str]:
    """The environment in which this interpreter's own `uv` is found, and no setting of ours."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": ""}


def run(installed: Path, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    command = [str(installed / "env" / "bin" / "shadow"), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": str(installed), "COLUMNS": "140"}
    return subprocess.run(
        command, cwd=installed, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_first_steps_work_outside_the_source_tree(installed):
    """
    `init` writes a configuration that `check` finds right.
    """
    init = run(installed, "init", "http://127.0.0.1:8001", "http://127.0.0.1:8002")
    check = run(installed, "check", "-c", "shadow.yaml")

    assert (0, 0) == (init.returncode, check.returncode), init.stderr + check.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize("example", ["assistant", "digits"])
def test_demo_decides_as_promised(installed, example):
    """
    The demo ends with a rollback and a promotion, and `explain` still knows why afterwards.
    """
    demo = run(installed, "demo", "--example", example, timeout_s=380)
    explain = run(installed, "explain")

    assert 0 == demo.returncode, demo.stdout[-6000:] + demo.stderr[-3000:]
    assert "ROLLBACK" in demo.stdout
    assert "PROMOTE" in demo.stdout
    assert "" == demo.stderr
    assert 0 == explain.returncode, explain.stdout + explain.stderr
    assert "PROMOTE" in explain.stdout
