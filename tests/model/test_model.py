"""Thousands of interleavings of traffic, owners and faults on the real fold, against a plain reference."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from shadow.records.answers import Tick
from shadow.records.tallies import CLASSES
from tests.model.machine import Schedule
from tests.model.owner import Owner
from tests.model.variants import VARIANTS
from tests.model.world import EVERY_S, Miscounted, World
from tests.stream.builders import RUN, SECOND, answer

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/exactly-once.md").read_text()
SHORT = settings(
    max_examples=400,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    # Shrinking a schedule takes minutes; the one that was found is printed as it is.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=2000, stateful_step_count=60, derandomize=False)
FIND = settings(SHORT, max_examples=1000)
REACHED = (
    *CLASSES,
    *("records", "duplicate", "late", "grades_repeated", "dead_letters", "broken", "tiles", "frozen latency reference"),
    *("correct both", "reward both", "reward candidate_only", "candidate only", "baseline only", "tie"),
    *("refused", "late write applied", "fallen back", "emptied", "another format", "read again", "parked"),
)
"""What a search must come across at least once to be worth its name."""


def searching(**changes):
    """A machine of its own, which remembers what it has seen."""
    return type("Searching", (Schedule,), {"seen": Counter(), **changes})


def test_every_schedule_counts_like_the_reference():
    """P1, P2, P3: whatever is killed, frozen, doubled or forgotten, every counter of every tile is the reference's."""
    machine = searching()
    run_state_machine_as_test(machine, settings=SHORT)
    assert [] == [what for what in REACHED if not machine.seen[what]]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(10))
def test_every_schedule_of_a_long_search_counts_like_the_reference(number):
    """The same with 20,000 schedules of up to 60 steps, in ten seeded parts."""
    run_state_machine_as_test(seed(number)(searching()), settings=LONG)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_an_owner_that_is_built_wrong_is_found(variant):
    """The search is not blind: each broken variant ends up with other integers than the reference."""
    with pytest.raises(Miscounted):
        run_state_machine_as_test(searching(owner_class=variant, is_strict=False), settings=FIND)


def test_a_broken_variant_is_wrong_about_the_snapshot_too():
    """What is stored is compared after each write, so a mistake that a later fault would heal is found as well."""
    world = World()
    owner = next(each for each in VARIANTS if each.__name__ == "OffsetApart")(world)
    world.append(answer(world.requests[1], 1, EVERY_S * SECOND))
    owner.save()
    owner.consume(1)
    with pytest.raises(Miscounted, match="must be"):
        owner.save("dies")


def test_a_request_without_a_record_is_missing_whoever_loads():
    """
    While a tile waits for a recorded grade, another comparison's deadline may meet a request of which no record was
    read and whose exchange holds both answers. It is missing, whether or not an owner loads in between.
    """
    world = World()
    owner = Owner(world)
    for time_s, content in (
        *((20, answer(world.requests[each], each, each * EVERY_S * SECOND, outcome="expired")) for each in (1, 2, 3)),
        *((20, Tick(RUN, 1, 5)), (30, Tick(RUN, 2, 8))),
        (39, answer(world.requests[4], 4, 4 * EVERY_S * SECOND)),
        (55, Tick(RUN)),
    ):
        world.time_us = time_s * SECOND
        world.append(content)
        owner.consume(1)
    owner.save()
    owner.load()
    world.time_us = 300 * SECOND
    world.append(Tick(RUN))
    for _ in range(2):
        owner.consume(len(world.log.records))
        owner.save()
    world.check()


def test_the_page_names_each_crash_point():
    """docs/exactly-once.md argues about the labels that the comparator and the gate have, and about no others."""
    loops = ("consumers/comparator/process.py", "consumers/gate/process.py")
    code = "".join((ROOT / each).read_text() for each in loops)
    labels = set(re.findall(r'_reached\("(\w+)"\)', code))
    assert labels == set(re.findall(r"^\| (?:gate: )?(?:after|before) `(\w+)`", PAGE, re.MULTILINE))


def test_the_page_names_tests_that_exist():
    """Every test, variant and file of the repository that docs/exactly-once.md names is there."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert [] == [name for name in re.findall(r"`(test_\w+)`", PAGE) if f"def {name}(" not in tests]
    assert [] == [each.__name__ for each in VARIANTS if f"`{each.__name__}`" not in PAGE]
    paths = re.findall(r"\]\((\.\./[^)#]+)\)|`((?:tests|shadow|consumers)/[\w/.]+)`", PAGE)
    places = [ROOT / "docs" / linked if linked else ROOT / plain for linked, plain in paths]
    assert [] == [str(place) for place in places if not place.exists()]
