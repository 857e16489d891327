"""`shadow hold|resume|promote|rollback|extend` on Apache Kafka."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from shadow.adapters.avro import encode
from shadow.cli import wiring
from shadow.cli.begin import begin, runs_of, transactional_id
from shadow.cli.main import main
from shadow.gate.history import Run
from shadow.records.decisions import Decision
from tests.cli.conftest import CommandLine, configuration, shadow, written  # noqa: F401
from tests.gate_process.test_begin import Clock
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer


def called(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, what is on stdout and what on stderr, each in one line; in this process, to save its start."""
    out, err = io.StringIO(), io.StringIO()
    root, ours = logging.getLogger(), logging.getLogger("shadow")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    try:
        with (
            pytest.MonkeyPatch.context() as patched,
            chdir(folder),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            patched.setattr(sys, "argv", ["shadow", *arguments])
            main()
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
    return int(ended.value.code or 0), " ".join(out.getvalue().split()), " ".join(err.getvalue().split())


class Office:
    """A run that has begun, and the command line."""

    def __init__(self, command_line: CommandLine, tree: dict[str, Any]) -> None:
        self._command_line = command_line
        self.settings = wiring.settings_from(written(command_line.folder, tree))
        self._log = wiring.open_log(self.settings)
        wiring.create_topics(self.settings, self._log)
        self.run = begin(self.settings, self._log, Clock()).started.run

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return called(self._command_line.folder, *arguments)

    @property
    def history(self) -> Run:
        with closing(self._log.decisions(self.settings.topics.decisions, transactional_id(self.settings))) as writer:
            return next(run for run in runs_of(writer) if run.name == self.run)

    def end(self) -> None:
        decision = Decision("d", self.run, 1, "rollback", "shadow", "rolled_back", 9, "", (0, 0), (), "worse", "{}", 0)
        with closing(self._log.decisions(self.settings.topics.decisions, transactional_id(self.settings))) as writer:
            writer.append(b"", lambda records: encode(decision))


@pytest.fixture
def office(
    shadow: CommandLine,  # noqa: F811
    kafka: ApacheKafka,
    redis_server: RedisServer,
) -> Callable[..., Office]:
    """Makes an office; changes go into the configuration."""
    return lambda **changes: Office(shadow, configuration(kafka.bootstrap, redis_server.url, **changes))


def test_a_run_is_held_shown_resumed_extended_and_rolled_back(office: Callable[..., Office]) -> None:
    """
    Each command stands in the log with name and reason; `status` shows who holds and why, without any gate; once the
    run has ended everything is refused with exit code 2.
    """
    desk = office()
    assert 0 == desk("hold", "--reason", "the tokenizer changes", "--by", "ada")[0]
    code, out, _ = desk("status", "-c", "shadow.yaml")
    assert (3, True) == (code, "held by ada at " in out and "the tokenizer changes" in out), out
    code, out, _ = desk("status", "-c", "shadow.yaml", "-o", "json")
    assert ["ada"] == [each["by"] for each in json.loads(out)["people"]["holds"]]
    assert 0 == desk("resume", desk.run, "--reason", "done", "--by", "grace")[0]
    code, out, _ = desk("extend", "--for", "24h", "--reason", "thin traffic", "--by", "ada", "-o", "json")
    assert (0, "extend") == (code, json.loads(out)["command"])
    code, out, _ = desk("rollback", "--reason", "users complain")
    assert (0, True) == (code, f"run {desk.run}: rolled back" in out)
    run = desk.history
    assert ["hold", "resume", "extend", "rollback"] == [each.command for each in run.commands]
    assert ["ada", "grace", "ada"] == [each.by for each in run.commands[:3]]
    assert (86_400, True) == (run.commands[2].for_s, bool(run.commands[3].by))
    desk.end()
    code, _, err = desk("hold", "--reason", "too late")
    assert (2, True) == (code, f"the run {desk.run} has ended (rollback at tile 9)" in err)
    assert 4 == len(desk.history.commands)


def test_a_promotion_needs_override_and_where_wanted_a_second_person(office: Callable[..., Office]) -> None:
    """
    Without --override it is refused; with four eyes it says what the other person types, who must be another.
    """
    desk = office()
    desk_of_four = {"admin": {**configuration("embedded", "embedded")["admin"], "four_eyes": True}}
    code, _, err = desk("promote", "--reason", "good enough", "--by", "ada")
    assert (2, True) == (code, "needs --override" in err)
    desk = office(**desk_of_four)
    code, out, _ = desk("promote", "--override", "--reason", "good enough", "--by", "ada")
    (ordered,) = desk.history.commands
    line = f"shadow promote {desk.run} --override --confirm {ordered.command_id} --reason TEXT"
    assert (0, True) == (code, line in out), out
    confirm = ("promote", "--override", "--confirm", ordered.command_id, "--reason", "agreed", "--by")
    code, _, err = desk(*confirm, "Ada")
    assert (2, True) == (code, "another person must confirm it" in err)
    assert 0 == desk(*confirm, "grace")[0]
    assert [("ada", ""), ("grace", ordered.command_id)] == [(each.by, each.confirms) for each in desk.history.commands]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("hold",), "Missing option '--reason'"),
        (("hold", "--reason", ""), "the reason is ''"),
        (("hold", "--reason", "x", "--by", "a\tb"), "the name is 'a\\tb', must be one line of 1 to 64"),
        (("extend", "--reason", "x", "--for", "soon"), "--for: read 'soon', must be a duration of whole seconds"),
        (("extend", "--reason", "x", "--for", "500d"), "the extension is 43200000 s, must be 1 s to 365d"),
        (("hold", "--reason", "x", "-o", "xml"), "--output: read 'xml'"),
        (("promote", "--reason", "x"), "needs --override"),
    ],
    ids=range(7),
)
def test_a_mistake_in_the_call_is_one_sentence_and_needs_no_service(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    """
    Exit code 2 before anything is opened.
    """
    code, _, err = called(tmp_path, *arguments)
    assert (2, True) == (code, says in err), err


def test_input_105_commands_about_an_unknown_or_ended_run_and_a_double_start(office: Callable[..., Office]) -> None:
    """
    Input 105: an unknown run is named with those that there are; a second start of a running run begins nothing; an
    extension beyond what the topics keep is refused; nothing is written.
    """
    desk = office()
    code, _, err = desk("hold", "nosuch-1", "--reason", "x")
    assert (2, True) == (code, f"no run is named 'nosuch-1'; known are {desk.run}" in err)
    for _ in range(2):
        code, out, _ = desk("start", "--unsafe", "-o", "json")
        assert (0, {"run": desk.run, "attempt": 1, "is_new": False}) == (code, json.loads(out))
    code, _, err = desk("resume", "--reason", "x")
    assert (2, True) == (code, "no hold is in force" in err)
    code, _, err = desk("extend", "--for", "30d", "--reason", "x")
    assert (2, True) == (code, "keeps records for retention.ms 691200000" in err)
    assert () == desk.history.commands


def test_kafka_away_is_exit_code_5(tmp_path: Path) -> None:
    """
    One sentence says that Kafka does not answer.
    """
    written(tmp_path, configuration("127.0.0.1:1", "redis://127.0.0.1:1/0"))
    code, out, err = called(tmp_path, "rollback", "--reason", "x")
    assert (5, "", True) == (code, out, err.startswith("shadow: kafka could not")), err
