"""A run whose people answer three hours after the requests, from the export to the verdict."""

from __future__ import annotations

import json
from dataclasses import replace

from shadow.adapters.avro import decode
from shadow.cli.answers import plan_of
from shadow.desk.intake import Desk, Receipt
from shadow.desk.lines import line_from_tree
from shadow.desk.questions import Told, questions
from shadow.gate.history import Run
from shadow.records.answers import Answer
from shadow.records.comparisons import CANDIDATE_HUMAN, CANDIDATE_PRODUCTION, tile_name, tile_numbers
from shadow.records.decisions import Started
from shadow.records.tallies import CLASSES, ClosedTile, Key
from shadow.stream.state import slot_of
from tests.answers.world import HOUR_US, answered, human_tree
from tests.replay.world import PARTITIONS, TILES, TOPICS, World


def classes(world: World, comparison: str) -> dict[str, int]:
    """Requests of slice `all` by class, over the closed tiles of the traffic."""
    counts = [0] * len(CLASSES)
    names = [tile_name(number, comparison) for number in range(TILES)]
    for partition in range(PARTITIONS):
        for value in world.store.tiles(slot_of(world.started.run, partition), names):
            if value is None:
                continue
            vector = ClosedTile.from_bytes(0, value).tally.vectors.get(Key("all", "classes", ""), counts[:0])
            counts = [count + more for count, more in zip(counts, vector or [0] * len(counts), strict=True)]
    return dict(zip(CLASSES, counts, strict=True))


class Long(World):
    """A run of half-hour tiles, whose comparator goes on until the gate can fold the people's tile of the traffic."""

    def _begin(self) -> Started:
        started = super()._begin()
        return replace(started, tile_us=HOUR_US // 2)

    def _closed(self, partition: int) -> int:
        names = self.store.tile_names(slot_of(self.started.run, partition))
        needed = 1 + self.settings.policy().lag_tiles(CANDIDATE_HUMAN)
        return TILES if len(tile_numbers(names)) >= needed else 0


def outcomes(world: World) -> dict[str, str]:
    """Outcome of the candidate's first answer by the request's position."""
    found: dict[str, str] = {}
    for partition in range(PARTITIONS):
        for record in world.records("answers", partition):
            if record.headers.get("run") == world.started.run.encode() and record.value != b"garbage":
                content = decode(record.value)
                if isinstance(content, Answer) and content.role == "candidate":
                    found.setdefault(f"{partition}/{content.request_offset}", content.outcome)
    return found


def test_answers_of_people_come_three_hours_after_the_requests() -> None:
    """
    Exported, answered in part and imported three hours of log time later: exactly those are paired, those that never
    got one are missing there, and the verdict says both.
    """
    world = Long({**human_tree(tile="30min"), "human": {"sample": 0.5, "deadline": "4h"}})
    plan = plan_of(world.settings, Run(world.started, ()))
    world.clock.us += 3 * HOUR_US
    told = Told()
    asked = [json.loads(each) for each in questions(world.log, plan, told, since_us=None, now_us=world.clock.us)]
    assert 0 < told.exported == len(asked)
    assert told.sampled_out > 0 == told.overdue
    written = asked[::2]
    lines = [
        line_from_tree(answered(each, "right"), f"line {index}", run=plan.run, body_bytes_max=1000)
        for index, each in enumerate(written)
    ]
    desk = Desk(world.log, plan, world.clock)
    assert Receipt(len(written), 0, 0) == desk.take(lambda: lines)
    desk.close()

    world.clock.us += 3 * HOUR_US
    world.count()

    by_position = outcomes(world)
    usable = [each for each in written if by_position.get(each["position"]) in ("answered", "timeout")]
    no_evidence = [each for each in written if by_position.get(each["position"]) in ("expired", "too_large")]
    people = classes(world, CANDIDATE_HUMAN)
    total = sum(end - first for first, (_, end) in zip(world.started.requests_from, ends(world), strict=True))
    assert len(usable) == people["paired"]
    assert len(no_evidence) == people["candidate_missing"]
    assert len(asked) - len(usable) - len(no_evidence) == people["missing"]
    assert told.sampled_out == people["sampled_out"]
    assert total == sum(people.values())
    main = classes(world, CANDIDATE_PRODUCTION)
    assert (0, total) == (main["sampled_out"], sum(main.values()))
    assert main["paired"] > people["paired"]

    world.judge()
    stored = world.store.load(world.started.run)
    assert stored is not None
    view = json.loads(stored[1]["view"])
    (rule,) = [each for each in view["judgement"]["rules"] if each["comparison"] == CANDIDATE_HUMAN]
    assert len(usable) == rule["pairs"]
    # Of a request that nobody can read nobody can tell that people were not asked it.
    whole = len(asked) + people["unreadable"]
    said = f"people were asked about {whole} requests: {len(usable)} make pairs, {whole - len(usable)} are missing"
    assert said in rule["reason"]


def ends(world: World) -> list[tuple[int, int]]:
    return world.log.admin().ends(TOPICS["requests"])
