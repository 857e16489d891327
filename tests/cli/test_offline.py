"""Commands that need no service."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, configuration, written

EVIDENCE = Path(__file__).parents[1] / "evidence"
POLICY = str(EVIDENCE / "shadow.yaml")
NAMES = sorted(path.name for path in EVIDENCE.glob("*.json") if not path.name.endswith(".expect.json"))
CODES = {"promote": 0, "hold": 3, "expire": 3, "rollback": 4}


def test_init_writes_what_check_accepts(shadow: CommandLine) -> None:
    """
    The first configuration is valid as it is, and an existing file is not written over unasked.
    """
    arguments = ("init", "http://127.0.0.1:8000", "http://127.0.0.1:9000")
    assert 0 == shadow(*arguments).returncode
    assert 0 == shadow("check").returncode
    again = shadow(*arguments)
    assert (2, 1) == (again.returncode, again.stderr.count("\n"))
    assert "--force" in again.stderr
    assert 0 == shadow(*arguments, "--force").returncode


def test_a_closed_standard_input_is_one_sentence(shadow: CommandLine) -> None:
    """
    Some services start their commands without any standard input.
    """
    shadow("init", "http://127.0.0.1:1", "http://127.0.0.1:2")
    done = shadow("answers", "import", "-", through=("sh", "-c", 'exec "$@" <&-', "sh"))
    assert (2, True) == (done.returncode, "standard input" in done.stderr)


def test_check_names_all_errors_with_their_lines(shadow: CommandLine, tmp_path: Path) -> None:
    """
    Three mistakes, three lines on stderr that name the line in the file, exit 2.
    """
    path = written(tmp_path, configuration("embedded", "embedded"))
    text = path.read_text()
    text = text.replace("sample: 1.0", "sample: 2").replace("kind: answer_tag", "kind: nosuch").replace("1d", "1 moon")
    path.write_text(text)
    done = shadow("check")
    assert (2, "") == (done.returncode, done.stdout)
    lines = text.splitlines()
    named = {int(number) for number in re.findall(r"(?:line |yaml:)(\d+)", done.stderr)}
    wrong = {at for at, line in enumerate(lines, 1) if any(word in line for word in ("sample: 2", "nosuch", "moon"))}
    assert wrong <= named, done.stderr


@pytest.mark.parametrize("missing", ["check", "start", "up", "doctor", "proxy", "gate"])
def test_a_configuration_that_is_not_there_is_one_sentence(shadow: CommandLine, missing: str) -> None:
    """
    No file: exit 2 and its name.
    """
    done = shadow(missing, "-c", "nosuch.yaml")
    assert (2, "") == (done.returncode, done.stdout)
    assert "nosuch.yaml" in done.stderr


def test_enough_evidence_files_are_kept() -> None:
    """
    At least twelve, each with its expected decision.
    """
    assert len(NAMES) >= 12
    assert all((EVIDENCE / name.replace(".json", ".expect.json")).exists() for name in NAMES)


@pytest.mark.parametrize(
    "name", ["promote-everything-proven.json", "hold-empty.json", "rollback-unsafe.json", "expired-nothing-proven.json"]
)
def test_evaluate_says_the_decision_by_its_exit_code(shadow: CommandLine, name: str) -> None:
    """
    0 promote, 3 hold or expired, 4 rollback; the JSON says the same.
    """
    done = shadow("evaluate", "-c", POLICY, "--evidence", str(EVIDENCE / name), "-o", "json")
    decision = json.loads(done.stdout)["decision"]
    assert name.startswith(decision)
    assert CODES[decision] == done.returncode


def test_evaluate_meets_every_expectation_of_a_directory(shadow: CommandLine) -> None:
    """
    Each file of the directory is judged as its expectation says.
    """
    done = shadow("evaluate", "-c", POLICY, "--evidence", str(EVIDENCE), "-o", "json")
    rows = json.loads(done.stdout)
    assert (0, NAMES) == (done.returncode, [row["file"] for row in rows])
    assert all(row["expected"] == row["decision"] for row in rows)
    assert 0 == shadow("evaluate", "-c", POLICY, "--evidence", str(EVIDENCE)).returncode


def test_evaluate_fails_where_an_expectation_is_not_met(shadow: CommandLine, tmp_path: Path) -> None:
    """
    A wrong expectation is exit 5.
    """
    shutil.copy(EVIDENCE / "hold-empty.json", tmp_path / "one.json")
    (tmp_path / "one.expect.json").write_text('{"decision": "promote"}')
    assert 5 == shadow("evaluate", "-c", POLICY, "--evidence", str(tmp_path)).returncode


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"attempt": NaN}', b'{"nosuch": 1}', b"[" * 100_000]
)
def test_evaluate_refuses_a_broken_file(shadow: CommandLine, tmp_path: Path, content: bytes) -> None:
    """
    One sentence with the file's name, exit 2.
    """
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    done = shadow("evaluate", "-c", POLICY, "--evidence", str(path))
    assert (2, "") == (done.returncode, done.stdout)
    assert "broken.json" in done.stderr
    assert 1 == done.stderr.strip().count("\n") + 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("check", "--nosuch"),
        ("demo", "--example", "nosuch"),
        ("status", "-o", "xml"),
        ("evaluate", "-c", POLICY, "--evidence", str(EVIDENCE), "-o", "xml"),
        ("doctor", "-c", POLICY, "-o", "xml"),
        ("status",),
        ("explain",),
        ("explain", "nosuch-run"),
        ("worker", "-c", POLICY, "--role", "nosuch"),
        ("check", "--config"),
    ],
)
def test_a_wrong_call_is_a_usage_error(shadow: CommandLine, arguments: tuple[str, ...]) -> None:
    """
    Unknown commands, options, values and runs are exit 2 with a word why, and nothing on stdout.
    """
    done = shadow(*arguments)
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr


def test_runs_without_any_run(shadow: CommandLine) -> None:
    """
    A machine that knows none says so, as JSON an empty list.
    """
    assert "no runs yet" in shadow("runs").stdout
    assert [] == json.loads(shadow("runs", "-o", "json").stdout)
