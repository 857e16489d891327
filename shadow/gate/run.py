"""One run, tile by tile: fold closed tiles in order, judge, decide.

    tile f ──► change detectors (with the totals before f) ──► totals ──► digest ──► judge ──► decide, once a step

    shadow ──promote──► canary-1 ──promote──► canary-2 … ──promote──► watch ──after its time──► done
       │                   │                     │                      │
       └── rollback ───────┴──► rolled_back ◄────┴──────────────────────┘      too old, nothing proven: expired

With main tile f goes the tile of each other comparison that lies its deadline behind, so that no timing decides.

Pure: everything follows from the tiles 1 to f, whenever the gate looks; time is an argument.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from shadow.gate.compiled import CompiledStage
from shadow.gate.evidence import evidence_tree
from shadow.gate.judgement import Judgement, judgement_to_json
from shadow.gate.measures import Evidence
from shadow.gate.observe import Observation
from shadow.gate.rules import judge
from shadow.gate.stage import StageState
from shadow.gate.stats.engine import BETS, Floats
from shadow.gate.totals import Totals
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name
from shadow.records.decisions import (
    DONE,
    EXPIRE,
    EXPIRED,
    FINAL_STAGES,
    HOLD,
    PROMOTE,
    ROLLBACK,
    ROLLED_BACK,
    Decision,
    Routing,
    decision_id,
)
from shadow.records.policy import CANARY, LiveStep, Policy
from shadow.records.slices import ALL, SHADOW, in_stage
from shadow.records.tallies import Key, Tally

FORMAT: Final = 3
"""Number of the state's layout; another one is refused, and the state is folded again from the log."""

NO_OTHERS: Final[Mapping[str, Tally]] = MappingProxyType({})

ENDS: Final = {ROLLBACK: ROLLED_BACK, EXPIRE: EXPIRED}
"""Where a decision other than `promote` leads, from every stage."""


@dataclass(slots=True)
class RunState:
    """State of a run after a number of tiles. `fold_tile` and `advance` change it in place.

    Args:
        run: Run id.
        first_tile: Number of the run's first tile.
        folded: Number of the last tile folded; `first_tile` - 1 before the first.
        tiles_digest: SHA-256 chain over all tiles folded: sha256(previous, number, bytes of the merged tile).
        totals: Counts of all tiles folded, of the main comparison.
        others: The same of the other comparisons that rules of the policy read.
        stages: The stages whose tests go on, by name; the last one is the stage that the run is in.
        step: Number of decisions already taken.
        latched: Decision that ended the run; empty while none has.
    """

    run: str
    policy: Policy
    first_tile: int
    folded: int
    tiles_digest: bytes
    totals: Totals
    others: dict[str, Totals]
    stages: dict[str, StageState] = field(default_factory=dict)
    step: int = 0
    latched: str = ""

    @classmethod
    def begin(cls, run: str, policy: Policy, first_tile: int, stage: str = SHADOW) -> RunState:
        """State before the first tile.

        Raises:
            ValueError: If the policy has no such stage.
        """
        return cls(
            run=run,
            policy=policy,
            first_tile=first_tile,
            folded=first_tile - 1,
            tiles_digest=b"\0" * 32,
            totals=Totals(),
            others={name: Totals() for name in policy.comparisons if name != CANDIDATE_PRODUCTION},
            stages={stage: StageState.begin(policy.stage(stage), first_tile, policy.expires_s)},
        )

    @property
    def current(self) -> StageState:
        """The stage that the run is in, or was in when it ended."""
        return next(reversed(self.stages.values()))

    @property
    def stage(self) -> str:
        """Its name."""
        return self.current.name

    @property
    def live_step(self) -> LiveStep | None:
        """The step in which the candidate serves live requests; None in `shadow`."""
        steps = self.policy.live_steps
        taken = self.step - 1 if self.latched else self.step
        return steps[taken - 1] if 0 < taken <= len(steps) and self.stage != SHADOW else None

    @property
    def everything(self) -> str:
        """The slice that holds all pairs of the stage and step, for example `canary-2/all`."""
        step = self.live_step
        return in_stage(step.name, ALL) if step is not None else ALL

    @property
    def compiled(self) -> CompiledStage:
        """Tests of the stage that the run is in."""
        return self.current.compiled

    @property
    def log_r(self) -> Floats:
        """Change detector of the stage that the run is in."""
        return self.current.log_r

    @property
    def window(self) -> deque[tuple[int, int]]:
        """(tile, pairs) within the window of the step that the run is in."""
        return self.current.window

    @property
    def window_pairs(self) -> int:
        """Pairs within the policy's window."""
        return self.current.window_pairs

    @property
    def evidence(self) -> Evidence:
        """Evidence of the stage that the run is in, without attempt, freshness and change detector."""
        return self.current.evidence(self.totals, self.others, self.age_of(self.current))

    @property
    def seen(self) -> list[Observation]:
        """What each rule of that stage sees of it."""
        return self.seen_by(self.current)

    def seen_by(self, stage: StageState) -> list[Observation]:
        """What each rule of a stage sees of the evidence."""
        return stage.seen(self.totals, self.others, self.age_of(stage))

    def age_of(self, stage: StageState) -> float:
        """Age of a stage at the end of the last tile folded, by the log's time."""
        return (self.folded + 1 - stage.first_tile) * self.policy.tile_us / 1e6

    @property
    def age_s(self) -> float:
        """Age of the stage that the run is in."""
        return self.age_of(self.current)

    def tiles_longest_age(self, extended_s: int = 0) -> int:
        """T: tiles in the longest age of the stage that the run is in, with what people added to it."""
        return self.current.tiles_longest_age(self.policy.tile_us, extended_s)

    @property
    def freshness_s_max(self) -> float:
        """Accepted age of the newest tile where the policy does not say: twice the tile and its deadline."""
        return 2 * (self.policy.tile_us + self.policy.evidence_deadline_us) / 1e6


def lagging_tiles(policy: Policy, first_tile: int, tile_number: int) -> dict[str, int]:
    """The tile of each other comparison that is folded together with a main tile; none before the run's first."""
    found = {name: tile_number - policy.lag_tiles(name) for name in policy.comparisons if name != CANDIDATE_PRODUCTION}
    return {name: number for name, number in found.items() if number >= first_tile}


def fold_tile(
    state: RunState,
    tile_number: int,
    merged: Tally,
    merged_bytes: bytes | None = None,
    others: Mapping[str, Tally] = NO_OTHERS,
) -> RunState:
    """Fold the next closed tile into the state, in place.

    1. The change detectors take the tile, scaled by the design effects of the totals before it.
    2. The totals take it. 3. The digest's chain and the window do.

    Args:
        tile_number: One more than `state.folded`.
        merged: Sum of the tile over all partitions.
        merged_bytes: `merged.to_bytes()`, where the caller has them already.
        others: Sums of the other comparisons' tiles that `lagging_tiles` names.

    Returns:
        The same state.

    Raises:
        ValueError: If a tile is skipped or comes again; nothing was changed then.
    """
    if tile_number != state.folded + 1:
        raise ValueError(f"tile {tile_number} does not follow tile {state.folded}; none may be skipped or repeated")
    lagging = lagging_tiles(state.policy, state.first_tile, tile_number)
    if others.keys() != lagging.keys():
        raise ValueError(f"tile {tile_number} is folded with {sorted(lagging)}, not with {sorted(others)}")
    tiles = {CANDIDATE_PRODUCTION: merged, **others}
    for stage in state.stages.values():
        stage.detect(tiles, state.seen_by(stage))
    state.totals.add(merged)
    content = merged.to_bytes() if merged_bytes is None else merged_bytes
    state.tiles_digest = hashlib.sha256(state.tiles_digest + str(tile_number).encode() + content).digest()
    for name, number in lagging.items():
        state.others[name].add(others[name])
        content = tile_name(number, name).encode() + others[name].to_bytes()
        state.tiles_digest = hashlib.sha256(state.tiles_digest + content).digest()
    paired = merged.vectors.get(Key(state.everything, "classes", ""), [0])[0]
    state.window.append((tile_number, paired))
    oldest = tile_number - state.compiled.stage.needs.within_s * 1_000_000 // state.policy.tile_us
    while state.window and state.window[0][0] <= oldest:
        state.window.popleft()
    state.folded = tile_number
    for stage in state.stages.values():
        stage.forget()
    return state


def judge_tile(
    state: RunState, *, attempt: int = 1, freshness_s: float = 0.0, with_bounds: bool = False, extended_s: int = 0
) -> Judgement:
    """Judge the totals after the last tile folded; the stage's age is the log's.

    In `canary` the shadow stage's rollback process may decide too; the judgement is then that stage's.

    Args:
        attempt: Ordinal of the run among those of its candidate and production.
        freshness_s: Age of the last tile's end; it may hold the gate, so a replay passes 0.
        with_bounds: Whether lines carry confidence bounds while the gate holds; a decision always does.
        extended_s: Seconds that people added to the longest age, as far as they hold at this tile.
    """
    judgement = _judged(state, state.current, attempt, freshness_s, with_bounds, extended_s)
    for stage in state.stages.values():
        if stage is not state.current and judgement.decision != ROLLBACK:
            former = _judged(state, stage, attempt, freshness_s, False, extended_s)
            judgement = former if former.decision == ROLLBACK else judgement
    return judgement


def _judged(
    state: RunState, stage: StageState, attempt: int, freshness_s: float, with_bounds: bool, extended_s: int
) -> Judgement:
    seen = state.seen_by(stage)
    log_sr, parts = stage.detected(seen)
    evidence = stage.evidence(state.totals, state.others, state.age_of(stage))
    evidence = replace(evidence, attempt=attempt, freshness_s=freshness_s, log_sr=log_sr)

    def judged(with_bounds: bool) -> Judgement:
        return judge(
            stage.compiled,
            evidence,
            expires_s=stage.extended(extended_s),
            tiles_longest_age=stage.tiles_longest_age(state.policy.tile_us, extended_s),
            freshness_s_max=state.freshness_s_max,
            detector=parts,
            with_bounds=with_bounds,
            seen=seen,
            step=state.live_step if stage is state.current else None,
        )

    judgement = judged(with_bounds)
    # A decision is written down with its bounds, so they are worth their time then.
    return judged(True) if judgement.decision != HOLD and not with_bounds else judgement


def decide(
    state: RunState, judgement: Judgement, *, positions: tuple[int, ...], decided_us: int, upstream: str = ""
) -> Decision | None:
    """Turn a judgement into the step's one decision; the state stays, until `advance` takes the decision over.

    Args:
        state: The state that was judged.
        judgement: From `judge_tile`.
        positions: Answers offset of each partition behind the record that closed the last tile.
        decided_us: By the gate's clock.
        upstream: Where the candidate serves live requests, where the policy has stages in which it does.

    Returns:
        The decision; None while the gate holds, or once the run has been decided.
    """
    if judgement.decision == HOLD or state.latched:
        return None
    to_stage = next_stage(state, judgement.decision)
    return Decision(
        decision_id=decision_id(state.run, state.step + 1),
        run=state.run,
        step=state.step + 1,
        decision=judgement.decision,
        from_stage=state.stage,
        to_stage=to_stage,
        tile=state.folded,
        tiles_digest=state.tiles_digest.hex(),
        positions=positions,
        culprits=judgement.culprits,
        reason=judgement.reason,
        evidence=json.dumps(
            {"evidence": evidence_tree(judgement.evidence), "judgement": judgement_to_json(judgement)},
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        ),
        decided_us=decided_us,
        routing=_routing(state, to_stage, upstream),
    )


def next_stage(state: RunState, decision: str) -> str:
    """The stage to which a decision leads now."""
    if decision != PROMOTE:
        return ENDS[decision]
    steps = state.policy.live_steps
    return steps[state.step].stage if state.step < len(steps) else DONE


def _routing(state: RunState, to_stage: str, upstream: str) -> Routing | None:
    """What the candidate serves after a decision; once it has served everything, that does not change by itself."""
    steps = state.policy.live_steps
    if not steps or to_stage in (ROLLED_BACK, EXPIRED):
        return None
    share = 1.0 if to_stage == DONE else steps[state.step].share
    return Routing(share, state.run, upstream)


def advance(state: RunState, decision: Decision) -> None:
    """Take over a decision of the run's next step: the state then is in the stage or step to which it leads.

    Raises:
        ValueError: If it is another step's; nothing was changed then.
    """
    if decision.step != state.step + 1 or state.latched:
        raise ValueError(f"step {decision.step} does not follow step {state.step} of {state.run}")
    former = state.stage
    state.step = decision.step
    if decision.to_stage in FINAL_STAGES:
        state.latched = decision.decision
        return
    if decision.to_stage == former:
        state.window.clear()  # evidence of the last step is none of the next
        return
    policy, first_tile = state.policy.stage(decision.to_stage), decision.tile + 1
    spent_s = (first_tile - state.first_tile) * state.policy.tile_us / 1e6
    longest_s = policy.for_s if policy.for_s is not None else max(0.0, state.policy.expires_s - spent_s)
    if policy.name != CANARY:
        state.stages.clear()  # what was promoted is not rolled back by what was counted before
    state.stages[policy.name] = StageState.begin(policy, first_tile, longest_s)


def state_to_bytes(state: RunState) -> bytes:
    """Write a state exactly: a line of JSON with floating-point numbers in hexadecimal, then a line of each totals."""
    head = {
        "format": FORMAT,
        "run": state.run,
        "first_tile": state.first_tile,
        "folded": state.folded,
        "tiles_digest": state.tiles_digest.hex(),
        "stages": [_stage_tree(stage) for stage in state.stages.values()],
        "comparisons": [CANDIDATE_PRODUCTION, *state.others],
        "step": state.step,
        "latched": state.latched,
    }
    line = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    totals = (state.totals, *state.others.values())
    return b"\n".join((line, *(each.to_tally().to_bytes() for each in totals)))


def _stage_tree(stage: StageState) -> dict[str, Any]:
    return {
        "name": stage.name,
        "first_tile": stage.first_tile,
        "longest_s": float(stage.longest_s).hex(),
        "log_r": [[value.hex() for value in row] for row in stage.log_r.tolist()],
        "window": list(stage.window),
    }


def state_from_bytes(value: bytes, policy: Policy) -> RunState:
    """Read what `state_to_bytes` wrote.

    Raises:
        ValueError: If the bytes are damaged, have another format number, or belong to another policy; the
            state must then be folded again from the log.
    """
    line, *totals = value.split(b"\n")
    try:
        head = json.loads(line)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            found = head.get("format") if isinstance(head, dict) else type(head).__name__
            raise ValueError(f"the state has format {found!r}; this version reads {FORMAT}")
        stages = [_stage_from(tree, policy) for tree in head["stages"]]
        state = RunState.begin(str(head["run"]), policy, int(head["first_tile"]), stages[0].name)
        state.stages = {stage.name: stage for stage in stages}
        names = [CANDIDATE_PRODUCTION, *state.others]
        if head["comparisons"] != names or len(totals) != len(names):
            raise ValueError(f"the state holds {', '.join(head['comparisons'])}; the policy has {', '.join(names)}")
        state.totals, *others = (Totals.from_tally(Tally.from_bytes(each)) for each in totals)
        state.others = dict(zip(state.others, others, strict=True))
        state.folded = int(head["folded"])
        state.tiles_digest = bytes.fromhex(head["tiles_digest"])
        state.step, state.latched = int(head["step"]), str(head["latched"])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"the state cannot be read: {error!r}") from error
    return state


def _stage_from(tree: dict[str, Any], policy: Policy) -> StageState:
    stage = StageState.begin(policy.stage(tree["name"]), int(tree["first_tile"]), float.fromhex(tree["longest_s"]))
    rows = [[float.fromhex(number) for number in row] for row in tree["log_r"]]
    if len(rows) != len(stage.log_r) or any(len(row) != BETS for row in rows):
        raise ValueError(f"the state follows {len(rows)} tests; the policy has {len(stage.log_r)}")
    stage.log_r = np.array(rows, dtype=np.float64).reshape(len(rows), BETS)
    stage.window = deque((int(tile), int(pairs)) for tile, pairs in tree["window"])
    return stage
