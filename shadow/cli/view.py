"""Assemble what `status` and `explain` show: from the services, else from the last known state of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shadow.adapters import last_known
from shadow.errors import Unavailable, Usage
from shadow.gate.commands import people_tree
from shadow.gate.history import Run
from shadow.ports import Store
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_of_name
from shadow.records.slices import ALL
from shadow.records.tallies import CLASSES, Key, Tally
from shadow.stream.account import Accounts
from shadow.stream.state import FORMAT, slot_of


@dataclass(frozen=True, slots=True)
class View:
    """One run as it is shown.

    Args:
        document: JSON-ready.
        is_live: False where the services were away and this is the last known state.
        note: Why it is not live; empty if it is.
    """

    document: dict[str, Any]
    is_live: bool
    note: str = ""


def live_view(store: Store, run: Run) -> dict[str, Any]:
    """What the store says now: the gate's last look, and what the comparators are counting.

    Raises:
        Unavailable: If the store does not answer.
    """
    started = run.started
    stored = store.load(started.run)
    view: dict[str, Any] = {}
    if stored is not None and "view" in stored[1]:
        view = orjson.loads(stored[1]["view"])
    view.setdefault("run", started.run)
    view.setdefault("candidate", started.candidate)
    view.setdefault("production", started.production)
    view.setdefault("stage", run.stage)
    view["people"] = people_tree(run)
    view["running"] = running_counts(store, started.run, len(started.answers_from))
    return view


def running_counts(store: Store, run: str, partitions: int) -> dict[str, Any]:
    """Counts of closed and open tiles, of slice `all`, and where every live request went."""
    classes = dict.fromkeys(CLASSES, 0)
    counters: dict[str, int] = {}
    account = {"seen": 0, "present": 0, "lost": 0, "open": 0}
    dropped: dict[str, int] = {}
    waiting = 0
    for partition in range(partitions):
        slot = slot_of(run, partition)
        stored = store.load(slot)
        if stored is None:
            continue
        head = json.loads(stored[1]["head"]) if "head" in stored[1] else {}
        for name, count in head.get("counters", {}).items():
            counters[name] = counters.get(name, 0) + count
        # A snapshot of another format is counted again by its comparator; until then nothing is said of it.
        is_known = head.get("format") == FORMAT
        found = Accounts.from_json(head["accounts"] if is_known else []).account()
        account["seen"] += found.seen
        account["present"] += found.present
        account["lost"] += found.lost
        account["open"] += found.open
        for reason, count in found.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        if is_known:
            _add_classes(classes, head["comparisons"][CANDIDATE_PRODUCTION]["closed"])
        for name, value in stored[1].items():
            kind, _, tile = name.partition(":")
            if kind == "tally" and tile_of_name(tile)[1] == CANDIDATE_PRODUCTION:
                _add_classes(classes, Tally.from_bytes(value).vectors.get(Key(ALL, "classes", ""), ()))
            elif kind == "waiting":
                waiting += len(json.loads(value))
    return {"classes": classes, "waiting": waiting, "counters": counters, "account": {**account, "dropped": dropped}}


def _add_classes(classes: dict[str, int], counts: Sequence[int]) -> None:
    for name, count in zip(CLASSES, counts, strict=False):  # nothing is counted yet where there are none
        classes[name] += count


def last_known_view(run: str | None) -> View:
    """The last known state of a run, or of the newest one.

    Raises:
        Usage: If this machine knows none.
    """
    name = run or next(iter(reversed(last_known.run_names())), None)
    document = last_known.load(f"run-{name}") if name is not None else None
    if document is None:
        raise Usage(
            f"this machine knows no run {run!r}; `shadow runs -c shadow.yaml` lists those that Kafka knows"
            if run
            else "this machine knows no run yet; start one with `shadow demo` or `shadow start -c shadow.yaml`"
        )
    return View(document, is_live=False, note="last known state; the services were not asked")


def view_or_last_known(store: Store, run: Run) -> View:
    """The live view; where the store is away, the last known one, with the reason."""
    try:
        return View(live_view(store, run), is_live=True)
    except Unavailable as away:
        view = last_known_view(run.name)
        return View(view.document, is_live=False, note=f"last known state, since {away}")


def verdict_counts(document: Mapping[str, Any]) -> dict[str, int]:
    """How many rules have each verdict."""
    counts: dict[str, int] = {}
    for line in document.get("judgement", {}).get("rules", []):
        counts[line["verdict"]] = counts.get(line["verdict"], 0) + 1
    return counts
