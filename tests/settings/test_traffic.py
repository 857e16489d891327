"""How many pairs the traffic brings: sampling, quotas, who is asked, and the slices that graders are bound to."""

from __future__ import annotations

import pytest

from shadow.records.policy import Agreement, NoRegression, NoRewardHacking, Quality
from shadow.settings.human import Human
from shadow.settings.proxy import Mirror
from shadow.settings.traffic import Supply
from shadow.settings.workers import Worker

MIRROR = Mirror(methods=("POST",), paths=("/*",), sample=0.2, quotas={"rare": 1.0})
WORKERS = {
    "candidate": Worker(url="http://127.0.0.1:1", sample=0.5),
    "baseline": Worker(url="http://127.0.0.1:1", sample=0.4),
}
GRADERS = {"free": (), "bound": ("rare",), "other": ("common",), "reward": ("all",)}
RATES = {"all": 1000.0, "rare": 10.0, "common": 300.0}
SUPPLY = Supply(MIRROR, WORKERS, Human(sample=0.1), GRADERS, RATES)


@pytest.mark.parametrize(
    ("rule", "per_h"),
    [
        (NoRegression("free"), 1000 * 0.2 * 0.5),
        (NoRegression("free", "rare"), 10 * 1.0 * 0.5),
        (NoRegression("bound", "rare"), 10 * 1.0 * 0.5),
        # On `all` a quota brings nothing: a pair counts there at the common sample.
        (NoRegression("bound"), 10 * 0.2 * 0.5),
        # Of two slices that overlap in an unknown part, the smaller is the most there can be.
        (NoRegression("other", "rare"), 10 * 1.0 * 0.5),
        (NoRegression("free", against="human"), 1000 * 0.2 * 0.5 * 0.1),
        (Agreement(), 1000 * 0.2 * 0.5 * 0.4),
        (Quality({"bound": 1.0, "other": 1.0}), 310 * 0.2 * 0.5),
        (Quality({"bound": 1.0, "free": 1.0}), 1000 * 0.2 * 0.5),
        (NoRewardHacking("reward", ("bound", "other")), 310 * 0.2 * 0.5),
        (NoRewardHacking("bound", ("other",)), 10 * 0.2 * 0.5),
    ],
    ids=[str(number) for number in range(11)],
)
def test_pairs_of_a_rule(rule, per_h):
    """
    Requests an hour times the shares that are copied, asked and graded.
    """
    assert per_h == pytest.approx(SUPPLY.rule_per_h(rule))


def test_pairs_of_a_slice_are_those_of_candidate_and_production():
    """
    Baseline and people lower nothing there.
    """
    assert (100.0, 5.0) == (SUPPLY.slice_per_h("all"), SUPPLY.slice_per_h("rare"))


def test_what_nobody_says_is_named():
    """
    A rule needs the traffic of its slice, and of the slices that bind its graders.
    """
    unknown = Supply(MIRROR, WORKERS, None, GRADERS, {"all": 1000.0})
    assert ("common",) == unknown.unknown(NoRegression("other"))
    assert ("rare",) == unknown.unknown(NoRegression("bound", "rare"))
    assert () == unknown.unknown(NoRegression("free"))
