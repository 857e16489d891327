"""Inputs 97 to 105: what a configuration, a name or a second start may bring; more are tabled in tests/settings."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from shadow.adapters import last_known
from shadow.cli.begin import Begun, begin, runs_of, transactional_id
from shadow.cli.view import last_known_view
from shadow.errors import InvalidConfiguration, Usage
from shadow.records.slices import SliceSpec
from shadow.stream.slice import Slicer
from tests.gate_process.test_begin import Clock, log_of
from tests.settings import test_bad_configurations
from tests.settings.configurations import BASE, HERE, changed, problems_of, settings_of
from tests.stream.builders import request

SECTION14 = yaml.safe_load((HERE / "section14.yaml").read_text(encoding="utf-8"))
NO_NAMES = ("../x", "a/../../x", "/etc/passwd", "a\0b", "a b", "a" * 300, "A", "", "{a}", "a}{b", "a|b", "run.json/x")


def keys(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all sections, down to the rules and graders."""
    if isinstance(tree, dict):
        yield path
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in children:
        yield from keys(value, (*path, key))


def numbers(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all numbers."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in children:
        yield from numbers(value, (*path, key))
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        yield path


def with_value(path: tuple[str | int, ...], value: Any) -> str:
    """The full configuration with another value at a path."""
    tree = copy.deepcopy(SECTION14)
    place = tree
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return yaml.safe_dump(tree, sort_keys=False)


def said_of(path: tuple[str | int, ...]) -> str:
    """A path as problems name it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def test_input_97_an_unknown_key_in_any_section():
    """
    A key that no section knows is named, wherever it stands.
    """
    places = list(keys(SECTION14))
    for path in places:
        problems = problems_of(with_value((*path, "no such"), 1))
        assert [problem for problem in problems if said_of(path) in problem] != [], (path, problems)
    assert len(places) > 40


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), -1], ids=["nan", "minus-infinity", "negative"])
def test_input_98_a_number_that_is_none_or_negative(value):
    """
    No threshold, rate, count or weight of the configuration takes NaN, an infinity or a negative number.
    """
    places = list(numbers(SECTION14))
    for path in places:
        problems = problems_of(with_value(path, value))
        assert [problem for problem in problems if said_of(path) in problem] != [], (path, problems)
    assert len(places) > 30


def test_input_98_no_pairs_of_a_slice():
    """
    A slice needs at least one pair, and the reason says what would be right.
    """
    (problem,) = problems_of(changed("slice_pairs: 1250", "slice_pairs: 0"))
    assert "stages.shadow.needs.slice_pairs: read 0, must be a whole number from 1 to" in problem


@pytest.mark.parametrize("pattern", ["(a+)+$", "((a{100}){100}){100}", r"(a)\1"], ids=["nested", "repeated", "back"])
def test_input_99_patterns_of_traffic(pattern):
    """
    A pattern that holds other engines forever is linear here; the two that RE2 cannot hold or has no word for are
    refused when the configuration is read.
    """
    problems = problems_of(changed("x{500}", pattern.replace("\\", "\\\\")))
    if pattern == "(a+)+$":
        assert [] == problems
        slicer = Slicer((SliceSpec("held", text=pattern),))
        assert ("all",) == slicer.slices_of(request(1, text="a" * 60_000 + "!"))
    else:
        assert ["shadow.yaml:26"] == [problem.partition(": ")[0] for problem in problems]


def test_input_101_aliases_stand_for_nothing():
    """
    Nine levels of nine aliases would be 387 million entries; none is followed.
    """
    levels = "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9) if i else 'x'}]\n" for i in range(9))
    problems = problems_of(BASE + levels)
    assert any("must be written out" in problem for problem in problems)
    assert len(problems) < 200


@pytest.mark.parametrize("name", NO_NAMES, ids=range(len(NO_NAMES)))
def test_inputs_102_to_104_a_version_is_a_plain_name(name):
    """
    A path, NUL, blanks, braces, a bar, capitals and overlong names are refused for both versions of a run.
    """
    for key in ("candidate", "production"):
        text = with_value(("run", key), name)
        problems = problems_of(text)
        assert [problem for problem in problems if f"run.{key}" in problem] or "shadow.yaml:" in problems[0]
        with pytest.raises(InvalidConfiguration):
            settings_of(text)


@pytest.mark.parametrize("name", NO_NAMES, ids=range(len(NO_NAMES)))
def test_inputs_102_and_103_a_run_that_is_asked_for(tmp_path, monkeypatch, name):
    """
    Whatever is asked for as a run is known or not, in one sentence, and no file outside of the state is read.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    last_known.save("run-run", {"run": "run"})
    (tmp_path / "x.json").write_text('{"run": "of somebody else"}')
    (tmp_path / "shadow" / "run-..").mkdir()
    if name == "":
        assert "run" == last_known_view(None).document["run"]
        return
    with pytest.raises(Usage, match="this machine knows no run") as refused:
        last_known_view(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a|b", "a/b", "a:b", "a{b", "a b", "all", "a" * 65], ids=range(7))
def test_input_104_a_slice_is_a_plain_name(name):
    """
    No slice has a name that a separator of keys, tiles or labels could be read out of.
    """
    tree = copy.deepcopy(SECTION14)
    tree["slices"][name] = {"text": "x"}
    problems = problems_of(yaml.safe_dump(tree, sort_keys=False))
    assert [problem for problem in problems if f"slices.{name[:60]}" in problem] != [], problems


def test_input_105_many_starts_at_once_are_one_run():
    """
    Starts that race begin one run, and each of the others is told which; a later one finds it as well.
    """
    settings = settings_of()
    log, found = log_of(settings), list[Begun]()
    threads = [threading.Thread(target=lambda: found.append(begin(settings, log, Clock()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found.append(begin(settings, log, Clock()))
    assert [False] * 8 + [True] == sorted(each.is_new for each in found)
    assert {found[0].started.run} == {each.started.run for each in found}
    writer = log.decisions(settings.topics.decisions, transactional_id(settings))
    assert 1 == len(runs_of(writer))


def test_every_number_has_a_test():
    """
    97 to 105 are all here, or among the tabled configurations.
    """
    tabled = {case["input"] for case in test_bad_configurations.CASES}
    names = [name.split("_") for name in globals() if name.startswith("test_input")]
    named = {int(word) for words in names for word in words if word.isdigit()}
    assert set(range(97, 106)) <= tabled | named
