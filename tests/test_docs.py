"""The pages of docs/ say what the code does: no key, metric, grader or command is missing, and every example works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

import shadow.settings.loader  # noqa: F401 - every section of the settings is imported by it
from benchmarks.scale import table
from shadow.cli import exits
from shadow.cli.main import MODULE_BY_COMMAND
from shadow.graders import build
from shadow.metrics import CATALOGUE
from shadow.settings.graders import GRADERS, GraderSection
from shadow.settings.kafka import OWN_PROPERTIES, Kafka
from shadow.settings.loader import KEYS, settings_from_bytes
from shadow.settings.names import NEVER_RECORDED
from shadow.settings.rules import RULES, ComparedRule, RuleSection
from shadow.settings.section import Section
from shadow.settings.settings import Settings
from shadow.settings.tree import tree_from_bytes
from tests import pages

ROOT = Path(__file__).parent.parent
ENV = {"KAFKA_PASSWORD": "k", "REDIS_URL": "redis://r:6379/0", "CANDIDATE_KEY": "c"}


def read(text: str) -> Any:
    """YAML as Shadow reads it: 1e-6 is a number, which it is not for the YAML library."""
    return tree_from_bytes(text.encode()).root


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def sections_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for below in model.__subclasses__():
        if below.__module__.startswith("shadow."):
            yield below
            yield from sections_of(below)


def examples(name: str) -> list[tuple[str, str]]:
    """(heading, text) of each YAML example of a page."""
    found, heading = [], ""
    for part in re.finditer(r"^#+ ([^\n]+)$|^```yaml\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL):
        if part[1] is not None:
            heading = part[1]
        else:
            found.append((heading, part[2]))
    return found


def whole_file() -> dict[str, Any]:
    """The example of a whole file."""
    content: dict[str, Any] = read(dict(examples("configuration.md"))["A whole file"])
    return content


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_tables_are_what_the_code_says(path):
    """
    A page is what `python -m tests.pages` would write.
    """
    assert pages.written(path.read_text(), pages.tables()) == path.read_text(), "run: python -m tests.pages"


def test_every_table_stands_in_a_page():
    """
    No key, metric, grader, rule or option is left out: each table is somewhere.
    """
    text = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    missing = [name for name in pages.tables() if f"<!-- table: {name} -->" not in text]
    assert [] == missing


def test_every_section_of_the_settings_has_a_table():
    """
    A new section of the configuration cannot be forgotten.
    """
    described = {*pages.SECTIONS.values(), *GRADERS.values(), *RULES.values(), GraderSection, RuleSection, ComparedRule}
    described.add(Settings)
    assert set() == set(sections_of(Section)) - described


def test_every_key_is_named_in_the_configuration_page():
    """
    Every key of every section and rule, and every top-level key.
    """
    text = page("configuration.md")
    models = (*pages.SECTIONS.values(), *RULES.values())
    missing = [(model.__name__, key) for model in models for key in pages.keys(model) if f"`{key}`" not in text]
    assert [] == missing
    assert [] == [key for key in KEYS if not re.search(rf"^#+ .*\b{key}\b", text, re.MULTILINE)]
    assert [] == [name for name in OWN_PROPERTIES | NEVER_RECORDED if f"`{name}`" not in text]


def test_defaults_are_written_as_the_file_takes_them():
    """
    A default, written into the file as the page shows it, gives the same value.
    """
    for model in (*pages.SECTIONS.values(), *GRADERS.values(), *RULES.values()):
        if model is Kafka:
            continue
        for attribute, field in model.model_fields.items():
            shown = pages.default_text(attribute, field)
            if shown.startswith("`"):
                value = TypeAdapter(field.rebuild_annotation()).validate_python(read(shown.strip("`")))
                assert field.default == value, f"{model.__name__}.{attribute}: {shown}"


@pytest.mark.parametrize(("heading", "text"), examples("configuration.md"), ids=lambda value: value[:30])
def test_examples_of_the_configuration_load(heading, text):
    """
    Each example is taken: as a whole file, or as that part of one.
    """
    tree, part = whole_file(), read(text)
    tree["slices"] |= {name: {"text": name} for name in ("headache-red-flags", "debug-search-api")}
    names = ("urgent", "pinned", "safe", "tagged", "current", "reward")
    tree["graders"] |= {name: {"kind": "status"} for name in names}
    tree["workers"]["candidate"]["price"] = {"prompt": 1, "completion": 1}
    tree["workers"]["baseline"] = {"url": "http://127.0.0.1:8000", "sample": 0.2}
    if heading == "feedback":
        tree["stages"]["canary"] = {"rules": part}
    elif isinstance(part, list):
        tree["stages"]["shadow"]["rules"] = part
    elif heading == "stages.canary, stages.watch":
        tree["stages"] |= part
    elif heading.startswith("proxy."):
        for key, value in part.items():
            tree["proxy"][key] = {**tree["proxy"].get(key, {}), **value} if isinstance(value, dict) else value
    elif heading.startswith("workers.ROLE"):
        tree["workers"]["candidate"] |= part
    elif heading == "stages.shadow.needs":
        tree["stages"]["shadow"] |= part
    elif heading == "slices":
        tree["slices"] |= part["slices"]
        tree["proxy"]["redact"] = {"headers": ["x-tenant"]}
        tree["expires"] = "30d"
    elif heading == "graders":
        tree["graders"] |= part["graders"]
    else:
        tree |= part
        if heading == "proxy":
            tree["proxy"]["mirror"].pop("quotas", None)
    settings_from_bytes(yaml.safe_dump(tree).encode(), ENV)


@pytest.mark.parametrize("kind", GRADERS)
def test_every_grader_has_a_working_example(kind):
    """
    Below its heading stands a grader of that kind which can be built.
    """
    by_kind = {heading: read(text) for heading, text in examples("graders.md")}
    assert kind in by_kind, f"docs/graders.md has no example of {kind}"
    ((name, given),) = by_kind[kind].items()
    assert kind == given["kind"]
    # A function of the reader's own is not here.
    given = {**given, "callable": "operator:eq"} if kind == "python" else given
    build(GRADERS[kind].model_validate(given).spec(name))


def test_every_metric_is_named_in_the_metrics_page():
    """
    Names, and what the alerts use, are in the catalogue.
    """
    text, names = page("metrics.md"), {metric.name for metric in CATALOGUE}
    assert [] == [name for name in names if f"`{name}`" not in text]
    assert set() == set(re.findall(r"\bshadow_[a-z_]+", text)) - names


def test_every_command_and_exit_code_is_in_the_commands_page():
    """
    A heading for each command, a row for each exit code.
    """
    text = page("commands.md")
    assert [] == [name for name in MODULE_BY_COMMAND if not re.search(rf"^#+ shadow .*\b{name}\b", text, re.MULTILINE)]
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert [] == [code for code in codes if not re.search(rf"^\| {code} \|", text, re.MULTILINE)]


def test_commands_of_the_pages_exist():
    """
    What the README and the pages tell one to type is a command.
    """
    names = set(MODULE_BY_COMMAND) | {"COMMAND"}
    for path in [ROOT / "README.md", *(p for p in (ROOT / "docs").glob("*.md") if p.name != "design.md")]:
        for block in re.findall(r"^```\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
            for called in re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ +)*shadow +([a-z]+)", block, re.MULTILINE):
                assert called in names, f"{path.name}: shadow {called}"


def test_links_of_the_pages_lead_somewhere():
    """
    A relative link names a file of the repository.
    """
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "schemas" / "README.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_scale_page_holds_the_computed_table():
    """
    The needs at each rate are what `python -m benchmarks.scale` computes.
    """
    block = re.search(r"<!-- scale -->\n(.*?)\n?<!-- end scale -->", page("scale.md"), re.DOTALL)
    assert block is not None
    assert table() == block[1].strip()
