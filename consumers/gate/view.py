"""What the gate tells after a look: JSON-ready, for `status`, `explain` and machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shadow.gate.explain import explain, explain_lines, suspects
from shadow.gate.flip import Way, flips_of
from shadow.gate.judgement import Judgement, judgement_to_json
from shadow.gate.noise import Noise, budget
from shadow.gate.run import RunState
from shadow.gate.today import detectable_today
from shadow.gate.trace import Trace, history_tree
from shadow.records.decisions import Decision, Started


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would flip each rule after a tile, and what each will find by the deadline."""

    tile: int
    stage: str
    ways: list[tuple[Way, ...]]
    detectable: Mapping[tuple[str, str], float]


def foreseen(state: RunState, judgement: Judgement) -> Foreseen:
    """What follows from the last tile folded, for the stage that was judged."""
    stage = state.stages[judgement.stage.name]
    seen = state.seen_by(stage)
    ways = flips_of(stage.compiled, seen, judgement.rules)
    found = detectable_today(stage.compiled, seen, judgement, stage.longest_s)
    return Foreseen(state.folded, stage.name, ways, found)


def view_of(
    started: Started,
    state: RunState,
    judgement: Judgement,
    decision: Decision | None,
    broken: str,
    now_us: int,
    decisions: Sequence[Decision] = (),
) -> dict[str, Any]:
    """What `status` and `explain` show: JSON-ready, made by the gate after a look."""
    everything = judgement.evidence.slices.get(state.everything)
    live = state.live_step
    return {
        "run": started.run,
        "attempt": started.attempt,
        "candidate": started.candidate,
        "production": started.production,
        "stage": decision.to_stage if decision else state.stage,
        "live": None if live is None else {"step": live.name, "share": live.share},
        "broken": broken,
        "tile": state.folded,
        "tiles": state.folded - started.first_tile + 1,
        "tile_us": started.tile_us,
        "tiles_digest": state.tiles_digest.hex(),
        "window_pairs": state.window_pairs,
        "pairs": everything.pairs if everything else 0,
        "pairs_needed": judgement.stage.needs.pairs,
        "age_s": state.age_s,
        "expires_us": started.expires_us,
        "updated_us": now_us,
        "judgement": judgement_to_json(judgement),
        "decision": decision_tree(decision),
        "decisions": [decision_tree(each) for each in decisions],
    }


def told_of(
    state: RunState, judgement: Judgement, ways: Sequence[tuple[Way, ...]], trace: Trace, noise: Noise | None = None
) -> dict[str, Any]:
    """What `explain` shows beside: what is missing and when it comes, what would flip it, and how it came about."""
    rows = explain(judgement, ways, state.policy.expires_s)
    return {
        "explain": [dataclasses.asdict(row) for row in rows],
        "lines": explain_lines(judgement, rows),
        "suspects": [dataclasses.asdict(each) for each in suspects(judgement)],
        "history": history_tree(trace, state.compiled.ids, state.policy.tile_us),
        "noise": None
        if noise is None
        else {"blocks": noise.blocks, "alarms": noise.alarms, "budget": budget(judgement.stage)},
    }


def decision_tree(decision: Decision | None) -> dict[str, Any] | None:
    """A decision as JSON-ready dictionary, its evidence left out."""
    if decision is None:
        return None
    return {
        "decision": decision.decision,
        "decision_id": decision.decision_id,
        "step": decision.step,
        "from_stage": decision.from_stage,
        "to_stage": decision.to_stage,
        "tile": decision.tile,
        "culprits": list(decision.culprits),
        "reason": decision.reason,
        "command_id": decision.command_id,
        "tiles_digest": decision.tiles_digest,
        "decided_us": decision.decided_us,
    }
