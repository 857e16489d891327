"""Bad configurations: each is refused with exactly these sentences (inputs 97 to 107 of the list of bad inputs)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shadow.errors import InvalidConfiguration
from shadow.settings.loader import load
from tests.settings.configurations import BASE, HERE, changed, problems_of

CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "bad_configurations.yaml").read_text(encoding="utf-8"))


def test_the_base_is_good():
    """
    The configuration that every case changes in one place loads.
    """
    assert [] == problems_of(BASE)


@pytest.mark.parametrize("case", CASES, ids=[f"{case['input']}-{case['what'].replace(' ', '-')}" for case in CASES])
def test_says_exactly_what_is_wrong(case):
    """
    One wrong place is named with its line, what was read and what it must be.
    """
    assert case["says"] == problems_of(changed(case["old"], case["new"]))


def test_says_everything_at_once():
    """
    Problems of every kind and section come together, by line.
    """
    text = BASE
    for old, new in (
        ("candidate: search-agent-v42", "candidate: V42"),
        ("sample: 0.2", "sample: 2"),
        ("deadline: 30s", "deadline: &d 30"),
        ("x{500}", "(a"),
        ("kind: safety", "kind: safty"),
        ("max: 0.005", "max: 0"),
        ("slice: division", "slice: divisio"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)

    lines = [int(problem.split(":")[1]) for problem in problems_of(text)]

    assert [1, 11, 20, 26, 29, 37, 38] == lines


def test_input_98_number_of_5000_digits():
    """
    A number of 5,000 digits is no number, and is quoted shortly.
    """
    (problem,) = problems_of(changed("sample: 0.2", "sample: " + "1" * 5000))

    assert f"shadow.yaml:11: proxy.mirror.sample: read {'1' * 60}…, must be a rate in (0, 1]" == problem


def test_input_99_pattern_over_1_kib():
    """
    A pattern over 1 KiB is refused, one of exactly 1 KiB is not.
    """
    (problem,) = problems_of(changed("x{500}", "a" * 1025))

    assert problem.endswith("which has 1,025 bytes, must have at most 1,024")
    assert [] == problems_of(changed("x{500}", "a" * 1024))


def test_input_99_exponential_pattern_is_harmless():
    """
    `(a+)+$`, which holds Python's own engine for seconds, is linear in RE2 and therefore taken.
    """
    assert [] == problems_of(changed("x{500}", "(a+)+$"))


def test_input_101_a_megabyte():
    """
    A file over 256 KiB is not even parsed.
    """
    (problem,) = problems_of(BASE + "#" * 1_000_000)

    assert f"shadow.yaml:1: has {len(BASE) + 1_000_000:,} bytes, must have at most 262,144" == problem


def test_input_101_bomb_of_aliases():
    """
    Aliases are refused one by one and never followed, so a bomb of them stays small.
    """
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n" for i in range(9))

    problems = problems_of(BASE + bomb)

    assert 9 * 8 + 9 + 9 >= len(problems) >= 27
    assert "shadow.yaml:41: a1[0]: uses the alias *a0, must be written out" in problems


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "shadow.yaml:1: read nothing, must be a mapping with the keys run, kafka, redis, proxy, workers, stages"),
        (
            b"- a",
            "shadow.yaml:1: read a list, must be a mapping with the keys run, kafka, redis, proxy, workers, stages",
        ),
        (b"a: b\nc: \xff", "shadow.yaml:2: is not UTF-8: byte 8 is 0xff"),
        (b"\xff\xfea\x00", "shadow.yaml:1: is not UTF-8: byte 0 is 0xff"),
        (b"a: 'b", "shadow.yaml:1: is not YAML: found unexpected end of stream"),
    ],
)
def test_says_what_is_no_configuration_at_all(content, sentence):
    """
    What is no YAML mapping is refused in one sentence.
    """
    assert [sentence] == problems_of(content)


def test_names_a_file_that_cannot_be_read(tmp_path: Path):
    """
    A missing file and a directory are one sentence each.
    """
    for path, reason in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidConfiguration) as caught:
            load(path, {})
        assert [f"{path}: cannot be read: {reason}"] == caught.value.problems


@pytest.mark.parametrize("section", ["run", "kafka", "redis", "proxy", "workers", "stages"])
def test_names_a_missing_section(section):
    """
    Every section without a default is asked for by its name.
    """
    tree = yaml.safe_load(BASE)
    del tree[section]

    assert f"shadow.yaml:1: {section} is missing" in problems_of(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    "section", ["run", "kafka", "redis", "proxy", "workers", "slices", "graders", "stages", "topics"]
)
@pytest.mark.parametrize("value", ["3", "[]", "text", "{a: {b: c}}", "[[1]]", "1e400", "null"])
def test_never_fails_on_a_section_of_another_shape(section, value):
    """
    Whatever stands where a section should be, the answer is sentences or a configuration, never a traceback.
    """
    tree = yaml.safe_load(BASE)
    tree.pop(section, None)

    for problem in problems_of(yaml.safe_dump(tree) + f"{section}: {value}\n"):
        assert problem.startswith("shadow.yaml:")
