"""The sections of a file that could be read, as the checks across them take them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from shadow.settings.admin import Admin
from shadow.settings.graders import GraderSection
from shadow.settings.human import Human
from shadow.settings.ingest import Ingest
from shadow.settings.kafka import Kafka
from shadow.settings.notify import Notify
from shadow.settings.proxy import ProxySection
from shadow.settings.redis import Redis
from shadow.settings.rules import RuleSection
from shadow.settings.run import Run
from shadow.settings.slices import Slice
from shadow.settings.stages import Stages
from shadow.settings.times import Times
from shadow.settings.topics import Topics
from shadow.settings.tree import Path
from shadow.settings.workers import Worker

_CHECKED_ONLY: Final = ("slice_names", "grader_names", "rules")


@dataclass(frozen=True, slots=True)
class PlacedRule:
    """A rule and where it stands, its kind included."""

    path: Path
    rule: RuleSection

    @property
    def kind(self) -> str:
        return str(self.path[-1])

    @property
    def stage(self) -> str:
        return str(self.path[1])


@dataclass(frozen=True, slots=True)
class Parts:
    """Sections of one file; None where one is missing or was refused.

    Args:
        slice_names, grader_names: Every name in the file, of refused ones too.
        rules: The rules of all stages that could be read.
    """

    slice_names: tuple[str, ...]
    grader_names: tuple[str, ...]
    run: Run | None
    kafka: str | Kafka | None
    redis: str | Redis | None
    proxy: ProxySection | None
    workers: dict[str, Worker]
    human: Human | None
    ingest: Ingest | None
    slices: dict[str, Slice]
    graders: dict[str, GraderSection]
    stages: Stages | None
    rules: tuple[PlacedRule, ...]
    times: Times | None
    topics: Topics | None
    notify: Notify | None
    admin: Admin | None

    def complete(self) -> dict[str, Any]:
        """The sections by name, of a file without problems."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _CHECKED_ONLY}
