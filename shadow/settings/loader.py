"""Load shadow.yaml: read it, check it as a whole, and report everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from shadow.errors import InvalidConfiguration
from shadow.settings import tree as yaml_tree
from shadow.settings.admin import Admin
from shadow.settings.checks import check
from shadow.settings.graders import GRADERS, GraderSection
from shadow.settings.human import Human
from shadow.settings.ingest import Ingest
from shadow.settings.kafka import EMBEDDED, Kafka
from shadow.settings.names import ENV, SLICE_NAME
from shadow.settings.notify import Endpoint, Notify
from shadow.settings.parts import Parts, PlacedRule
from shadow.settings.problems import Problems, is_secret
from shadow.settings.proxy import ProxySection
from shadow.settings.redis import Redis
from shadow.settings.rules import RULES, RuleSection
from shadow.settings.run import Run
from shadow.settings.settings import Settings
from shadow.settings.slices import Slice
from shadow.settings.stages import CanaryStage, OfflineStage, ShadowStage, Stages, WatchStage
from shadow.settings.times import Times
from shadow.settings.topics import Topics
from shadow.settings.tree import Tree
from shadow.settings.workers import ROLES, Worker

TIMES: Final = ("tile", "evidence_deadline", "expires")
REQUIRED: Final = ("run", "kafka", "redis", "proxy", "workers", "stages")
KEYS: Final = (*REQUIRED, "human", "ingest", "slices", "graders", *TIMES, "topics", "notify", "admin")
STAGES: Final = {"offline": OfflineStage, "shadow": ShadowStage, "canary": CanaryStage, "watch": WatchStage}

M = TypeVar("M", bound=BaseModel)


def load(path: Path, env: Mapping[str, str]) -> Settings:
    """Read a configuration.

    Args:
        path: The file.
        env: Environment, for values given as `env:NAME`. One that is not set is not refused here, but by the process
            that needs it.

    Raises:
        InvalidConfiguration: With every problem of the file, each with its line, what was read and what it must be.
    """
    return settings_from_bytes(_content(path), env, file=path.name)


def settings_from_bytes(content: bytes, env: Mapping[str, str], *, file: str = "shadow.yaml") -> Settings:
    """Read a configuration's content.

    Args:
        file: How the file is called in sentences.

    Raises:
        InvalidConfiguration: As `load`.
    """
    tree = yaml_tree.tree_from_bytes(content)
    problems = Problems(file, tree)
    if not tree.is_whole:
        problems.raise_any()
    if not isinstance(tree.root, dict):
        problems.read((), f"must be a mapping with the keys {', '.join(REQUIRED)}")
        problems.raise_any()
    _fill_in(tree.root, (), env)
    parts = _Reader(tree, problems).parts()
    check(parts, problems)
    problems.raise_any()
    return Settings(**parts.complete())


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(yaml_tree.BYTES_MAX + 1)
    except OSError as error:
        raise InvalidConfiguration([f"{path}: cannot be read: {error.strerror or error}"]) from error


def _fill_in(value: Any, path: yaml_tree.Path, env: Mapping[str, str]) -> Any:
    """Put values of the environment where secrets may stand and `env:NAME` does."""
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _fill_in(item, (*path, key), env)
    elif isinstance(value, list):
        value[:] = [_fill_in(item, (*path, index), env) for index, item in enumerate(value)]
    elif isinstance(value, str) and value.startswith(ENV) and is_secret(path):
        return env.get(value.removeprefix(ENV), value).strip()
    return value


class _Reader:
    """Validates the file part by part, so that one bad part hides no problem of another."""

    def __init__(self, tree: Tree, problems: Problems) -> None:
        self._root: dict[str, Any] = tree.root
        self._problems = problems
        self._placed: list[PlacedRule] = []

    def parts(self) -> Parts:
        for key in self._root:
            if key not in KEYS:
                self._problems.unknown_key((key,), KEYS)
        for key in REQUIRED:
            if key not in self._root:
                self._problems.add((), f"{key} is missing")
        times = {key: self._root[key] for key in TIMES if key in self._root}
        return Parts(
            slice_names=tuple(self._mapping(("slices",))),
            grader_names=tuple(self._mapping(("graders",))),
            run=self._section(("run",), Run),
            kafka=self._service("kafka", Kafka),
            redis=self._service("redis", Redis),
            proxy=self._section(("proxy",), ProxySection),
            workers=self._workers(),
            human=self._section(("human",), Human),
            ingest=self._section(("ingest",), Ingest),
            slices=self._slices(),
            graders=self._graders(),
            stages=self._stages(),
            rules=tuple(self._placed),
            times=self._validated((), Times, times),
            topics=self._section(("topics",), Topics, Topics()),
            notify=self._notify(),
            admin=self._section(("admin",), Admin, Admin()),
        )

    def _validated(self, path: yaml_tree.Path, model: type[M], value: Any) -> M | None:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self._problems.take(path, model, error)
            return None

    def _section(self, path: yaml_tree.Path, model: type[M], default: M | None = None) -> M | None:
        """One section; the default, without a problem, where the file does not have it."""
        value: Any = self._root
        for step in path:
            if step not in value:
                return default
            value = value[step]
        return self._validated(path, model, value)

    def _mapping(self, path: yaml_tree.Path) -> dict[str, Any]:
        """A mapping of the file; empty where there is none, with a problem where there is something else."""
        value: Any = self._root
        for step in path:
            value = value.get(step)
            if value is None:
                return {}
            if not isinstance(value, dict):
                self._problems.read(path[: path.index(step) + 1], "must be a mapping")
                return {}
        found: dict[str, Any] = value
        return found

    def _service(self, key: str, model: type[M]) -> str | M | None:
        value = self._root.get(key)
        if value == EMBEDDED or key not in self._root:
            return EMBEDDED if value == EMBEDDED else None
        if not isinstance(value, dict):
            self._problems.add((key,), "must be a mapping, or the word embedded")
            return None
        return self._section((key,), model)

    def _workers(self) -> dict[str, Worker]:
        found: dict[str, Worker] = {}
        for role in self._mapping(("workers",)):
            if role not in ROLES:
                self._problems.unknown_key(("workers", role), ROLES)
                continue
            worker = self._section(("workers", role), Worker)
            if worker is not None:
                found[role] = worker
        return found

    def _notify(self) -> Notify | None:
        if "notify" not in self._root:
            return None
        for key in self._mapping(("notify",)):
            if key != "endpoints":
                self._problems.unknown_key(("notify", key), ("endpoints",))
        found: dict[str, Endpoint] = {}
        is_whole = True
        for name in self._mapping(("notify", "endpoints")):
            if not SLICE_NAME.fullmatch(name):
                self._problems.add(
                    ("notify", "endpoints", name), "is no name, must be 1 to 64 characters out of a-z, 0-9 and -"
                )
            endpoint = self._section(("notify", "endpoints", name), Endpoint)
            is_whole = is_whole and endpoint is not None
            if endpoint is not None:
                found[name] = endpoint
        return self._validated(("notify",), Notify, {"endpoints": found}) if is_whole else None

    def _slices(self) -> dict[str, Slice]:
        found: dict[str, Slice] = {}
        for name in self._mapping(("slices",)):
            slice = self._section(("slices", name), Slice)
            if slice is not None:
                found[name] = slice
        return found

    def _graders(self) -> dict[str, GraderSection]:
        found: dict[str, GraderSection] = {}
        for name, value in self._mapping(("graders",)).items():
            path = ("graders", name)
            if not isinstance(value, dict):
                self._problems.read(path, "must be a mapping with a kind")
            elif "kind" not in value:
                self._problems.add((*path, "kind"), f"is missing, must be one of {', '.join(GRADERS)}")
            elif not isinstance(value["kind"], str) or value["kind"] not in GRADERS:
                self._problems.unknown_name((*path, "kind"), "one of", tuple(GRADERS))
            else:
                grader = self._section(path, GRADERS[value["kind"]])
                if grader is not None:
                    found[name] = grader
        return found

    def _stages(self) -> Stages | None:
        stages = self._mapping(("stages",))
        found: dict[str, Any] = {}
        for name, value in stages.items():
            path = ("stages", name)
            if name not in STAGES:
                self._problems.unknown_key(path, tuple(STAGES))
            elif not isinstance(value, dict):
                self._problems.read(path, "must be a mapping")
            else:
                rules = self._rules((*path, "rules"), value["rules"]) if "rules" in value else None
                # A list of which every rule was refused is not also missing; the rules that are left are checked on.
                own = {"rules": rules or (RuleSection(),)} if rules is not None else {}
                found[name] = self._validated(path, STAGES[name], {**value, **own})
                if rules == ():
                    found[name] = None
        if "stages" in self._root and "shadow" not in stages:
            self._problems.add(("stages", "shadow"), "is missing")
        kept = {name: stage for name, stage in found.items() if stage is not None}
        return Stages(**kept) if "shadow" in kept else None

    def _rules(self, path: yaml_tree.Path, value: Any) -> tuple[RuleSection, ...]:
        if not isinstance(value, list) or not value:
            self._problems.read(path, "must be a list of rules")
            return ()
        placed = [rule for index, item in enumerate(value) if (rule := self._rule((*path, index), item)) is not None]
        self._placed += placed
        return tuple(each.rule for each in placed)

    def _rule(self, path: yaml_tree.Path, item: Any) -> PlacedRule | None:
        if not isinstance(item, dict) or len(item) != 1:
            self._problems.read(path, f"must be a mapping with one of the rules {', '.join(RULES)}")
            return None
        kind, value = next(iter(item.items()))
        if kind not in RULES:
            self._problems.unknown_key((*path, kind), tuple(RULES))
            return None
        rule = self._validated((*path, kind), RULES[kind], value)
        return PlacedRule((*path, kind), rule) if rule is not None else None
