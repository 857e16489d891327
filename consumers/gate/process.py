"""The gate: folds closed tiles in order, judges after each, and writes each decision once.

Its protocol (design.md, sections 5 and 7), by number here and in the body:

 1. The next tile is there when every partition that `Started` names has closed it.
 2. The tile's shares are added up, folded into the state, and state and merged tile are written in one
    compare-and-set; refused means that another gate was faster or the store fell back: load again.
 3. The tile is judged. After loading, the last tile is judged again, since the gate may have ended in between.
 4. A decision goes to `shadow-decisions` in a transaction that first reads the topic to its end; if the step
 4. A decision goes to `shadow-decisions` in a transaction that first reads the topic to its end; if the step
    is there already, that one counts; if another run's candidate serves live requests, a promotion waits. What people
    order is obeyed on the way (obey.py).
 5. The state takes the decision over, and is in the stage to which it leads. A gate that folds again takes the
    decisions that it finds, each at its tile, and decides nothing new before the newest.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from consumers.gate.obey import People
from consumers.gate.published import publish, publish_operating
from shadow.adapters import last_known
from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.adapters.logs import Repeated
from shadow.errors import Refused, Unavailable
from shadow.gate.commands import forbidden, obeying, people_tree, under_hold
from shadow.gate.explain import explain, explain_lines, suspects
from shadow.gate.flip import Way, flips_of
from shadow.gate.history import PROMOTED_ELSEWHERE, Run, live_beside, promoted_after, runs_in
from shadow.gate.judgement import Judgement, judgement_to_json
from shadow.gate.noise import Noise, budget, noise_from_bytes, noise_stage
from shadow.gate.run import (
    RunState,
    advance,
    decide,
    fold_tile,
    judge_tile,
    lagging_tiles,
    state_from_bytes,
    state_to_bytes,
)
from shadow.gate.today import detectable_today
from shadow.gate.trace import Trace, history_tree, trace_from_bytes
from shadow.metrics import Metrics
from shadow.ports import Change, Clock, DecisionWriter, Store
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_PRODUCTION, tile_name
from shadow.records.decisions import EXPIRE, FINAL_STAGES, HOLD, ROLLBACK, Decision, DecisionsRecord, Started
from shadow.records.log import LogRecord
from shadow.records.policy import CANARY, WATCH, Policy
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.state import DROPPED, FOLDED, slot_of

log = logging.getLogger("shadow.gate")

IDLE_S = 0.2
PUBLISH_US = 1_000_000
MERGED_KEPT_US = 24 * 3600 * 1_000_000
"""Log time for which merged tiles stay in the store, for displays; judging needs the state alone."""


@dataclass(frozen=True, slots=True)
class _Foreseen:
    """What would flip each rule after a tile, and what each will find by the deadline."""

    tile: int
    ways: list[tuple[Way, ...]]
    detectable: Mapping[tuple[str, str], float]


@dataclass(slots=True)
class _Loaded:
    """The state as it stands in the store, with its version there.

    Args:
        trace: How the verdict came about.
        noise: Alarms among A/A pairs.
        foreseen: What depends on the tile alone and is shown.
    """

    state: RunState
    version: str | None
    positions: tuple[int, ...]
    trace: Trace
    noise: Noise
    foreseen: _Foreseen | None = None


class Gate:
    """Judges one run.

    Args:
        started: The run.
        policy: Its policy.
        store: Where tiles are read and the gate's snapshot is kept.
        writer: Writer of the decisions topic.
        metrics: Counters of this process.
        clock: Wall clock: for freshness, `expires` and displays only.
        reached: Called at labelled points of the loop, so that a test can end the process there.
        upstream: Where the candidate serves live requests; empty where no stage lets it.
        four_eyes: Whether a person's promotion needs a second person.
    """

    def __init__(
        self,
        started: Started,
        policy: Policy,
        store: Store,
        writer: DecisionWriter,
        metrics: Metrics,
        clock: Clock,
        reached: Callable[[str], None] = lambda point: None,
        *,
        upstream: str = "",
        four_eyes: bool = False,
    ) -> None:
        self._started = started
        self._policy = policy
        self._store = store
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._reached = reached
        self._upstream = upstream
        self._people = People(started, writer, clock, four_eyes=four_eyes)
        self._taken: list[Decision] = []
        self._waits_for = ""
        self._loaded: _Loaded | None = None
        self._noise = noise_stage(policy, started.stage)
        self._decision: Decision | None = None
        self._is_judged = False
        self._published_us = 0
        self._hole = ""
        self._hole_looked_us = 0
        self._trouble = Repeated(log, every_s=5.0)
        self._reason = "loading"

    @property
    def decision(self) -> Decision | None:
        """The decision that ended the run, once there is one."""
        return self._decision

    def readiness(self) -> tuple[bool, str]:
        """Whether the last look at the store succeeded."""
        return self._reason == "ok", self._reason

    def run(self, stop: threading.Event) -> None:
        """Fold and judge until told to stop, or until the run has ended."""
        while not stop.is_set() and self._decision is None:
            try:
                has_folded = self.step()
            except Unavailable as trouble:
                self._reason = str(trouble)
                self._trouble.warning("%s", trouble)
                has_folded = False
            if not has_folded:
                stop.wait(IDLE_S)
        while not stop.is_set():  # a finished run's gate stays up, so that its metrics can be read
            stop.wait(1.0)

    def step(self) -> bool:
        """Fold one tile if it is there, and judge; True if one was folded."""
        if self._loaded is None:
            self._load()
        if self._loaded is None:
            return False  # the run has ended, and another gate tells of it
        if self._decision is None and not self._is_judged and self._loaded.state.folded >= self._started.first_tile:
            # 3. No tile is passed unjudged: its decision must not depend on when a gate ended.
            self._look(self._loaded, self._hole)
        if self._decision is not None or self._loaded is None:
            return False
        tile = self._next_tile(self._loaded)
        if tile is not None and not self._fold(self._loaded, tile):
            return False
        if tile is None and not self._is_sound(self._loaded):
            return False
        self._reason = self._hole or "ok"
        self._look(self._loaded, self._hole)
        return tile is not None

    def _load(self) -> None:
        """Take the run's decisions from the topic and the snapshot from the store."""
        run = self._people.refresh()
        self._taken = list(run.decisions)
        stored = self._store.load(self._started.run)
        fresh = RunState.begin(self._started.run, self._policy, self._started.first_tile, self._started.stage)
        state, version, positions, trace, noise = fresh, None, self._started.answers_from, Trace(), Noise()
        if stored is not None:
            version, fields = stored
        if stored is not None and "gate" in fields:  # before the first tile only the view is there
            try:
                state = state_from_bytes(fields["gate"], self._policy)
                positions = tuple(orjson.loads(fields["positions"]))
                trace, noise = trace_from_bytes(fields.get("trace")), noise_from_bytes(fields.get("noise"))
            except (ValueError, KeyError) as error:
                log.warning("the stored state cannot be used (%s); folding all tiles again", error)
        self._loaded = loaded = _Loaded(state, version, positions, trace, noise)
        self._is_judged = False
        self._take_over(loaded)
        if run.is_finished:
            self._decision = run.decisions[-1]
            self._look(loaded, "")

    def _take_over(self, loaded: _Loaded) -> None:
        """5. Bring the state up to the decisions known at its tile."""
        state = loaded.state
        for decision in self._taken:
            if decision.step != state.step + 1 or decision.tile > state.folded:
                continue
            if decision.tile < state.folded - 1 and decision.to_stage not in FINAL_STAGES:
                # Another gate's clock was ahead, and this one folded on. One tile later is the same state: a stage's
                # detector rests until it has seen a tile.
                log.warning("step %d was decided at tile %d; folding again", decision.step, decision.tile)
                self._rebuild(loaded, state.folded)
                return
            former = state.stage
            advance(state, decision)
            if state.stage != former:
                loaded.trace = Trace()

    def _is_sound(self, loaded: _Loaded) -> bool:
        """See, each second while no tile comes, whether a partition's evidence cannot be completed, or is gone.

        Returns:
            False where everything is counted again.
        """
        now_us = self._clock.now_us()
        if now_us - self._hole_looked_us < PUBLISH_US:
            return True
        self._hole_looked_us = now_us
        slots = [slot_of(self._started.run, partition) for partition in range(len(self._started.answers_from))]
        for slot in slots:
            broken = self._store.field(slot, "broken")
            if broken is not None:
                # Counting again would complete nothing, and would empty the slot that holds the reason.
                self._hole = broken.decode()
                return True
        for slot in slots:
            dropped = self._store.field(slot, DROPPED)
            if dropped is not None and loaded.state.folded + 1 < int(dropped):
                self._rebuild(loaded, int(dropped))
                return False
        self._hole = ""
        return True

    def _rebuild(self, loaded: _Loaded, dropped: int) -> None:
        """Have everything counted again from the log: the store lost this gate's state, and tiles it needs are gone.

        The reset is stored first: an owner that counts again must not drop tiles for what was folded before it.
        """
        first = self._started.first_tile
        log.warning(
            "the stored state stands at tile %d, and tiles below %d were dropped; counting all of the log again",
            loaded.state.folded,
            dropped,
        )
        change = Change(
            str(uuid.uuid4()), {FOLDED: str(first - 1).encode()}, dropped=("gate", "positions", "trace", "noise")
        )
        self._loaded = None
        try:
            self._store.swap(self._started.run, loaded.version, change)
        except Refused:
            return  # another gate was faster
        for partition in range(len(self._started.answers_from)):
            self._store.purge(slot_of(self._started.run, partition))
        self._metrics.inc("shadow_gate_rebuilds_total", run=self._started.run)

    def _next_tile(self, loaded: _Loaded) -> list[ClosedTile] | None:
        """1. The shares of the next tile, and of what is folded with it, once every partition has closed them."""
        number = loaded.state.folded + 1
        wanted = {CANDIDATE_PRODUCTION: number, **lagging_tiles(self._policy, self._started.first_tile, number)}
        names = [tile_name(each, comparison) for comparison, each in wanted.items()]
        shares = []
        for partition in range(len(self._started.answers_from)):
            values = self._store.tiles(slot_of(self._started.run, partition), names)
            for (comparison, each), value in zip(wanted.items(), values, strict=True):
                if value is None:
                    return None
                shares.append(ClosedTile.from_bytes(each, value, comparison))
        return shares

    def _fold(self, loaded: _Loaded, shares: list[ClosedTile]) -> bool:
        """2. Fold a tile and write the state; False if another gate was faster."""
        merged: dict[str, Tally] = {}
        for share in shares:
            merged.setdefault(share.comparison, Tally()).add(share.tally)
        tiles = {share.name: merged[share.comparison].to_bytes() for share in shares[: len(merged)]}
        main, number = merged.pop(CANDIDATE_PRODUCTION), shares[0].number
        fold_tile(loaded.state, number, main, tiles[tile_name(number)], merged)
        if self._noise is not None and BASELINE_PRODUCTION in merged:
            loaded.noise.fold(self._noise, merged[BASELINE_PRODUCTION])
        loaded.positions = tuple(share.next for share in shares if share.comparison == CANDIDATE_PRODUCTION)
        self._is_judged = False
        kept = -(-MERGED_KEPT_US // self._policy.tile_us)
        change = Change(
            version=str(uuid.uuid4()),
            state={
                "gate": state_to_bytes(loaded.state),
                "positions": orjson.dumps(loaded.positions),
                "trace": loaded.trace.to_bytes(),
                "noise": loaded.noise.to_bytes(),
                FOLDED: str(number).encode(),
            },
            tiles=tiles,
            dropped_tiles=[tile_name(share.number - kept, share.comparison) for share in shares[: len(tiles)]],
        )
        try:
            self._store.swap(self._started.run, loaded.version, change)
        except Refused:
            log.info("another gate has folded tile %d; loading its state", number)
            self._loaded = None
            return False
        except Unavailable:
            self._loaded = None  # what is stored is unknown, and so is where to go on
            raise
        loaded.version = change.version
        self._take_over(loaded)
        self._reached("folded")
        return self._loaded is not None

    def _look(self, loaded: _Loaded, broken: str) -> None:
        """3. Judge the last tile, decide, and tell what was seen."""
        now_us = self._clock.now_us()
        is_due = now_us - self._published_us >= PUBLISH_US
        if self._is_judged and not is_due:
            return
        freshness_s = max(0.0, now_us / 1e6 - (loaded.state.folded + 1) * self._policy.tile_us / 1e6)

        def judged(extended_s: int, with_bounds: bool) -> Judgement:
            return judge_tile(
                loaded.state,
                attempt=self._started.attempt,
                freshness_s=freshness_s,
                with_bounds=is_due or with_bounds,
                extended_s=extended_s,
            )

        if self._decision is None:
            judgement = self._looked(loaded, judged, broken, now_us)
            if self._loaded is None:
                return  # someone ordered or decided something in between; the tile is judged again
        else:
            judgement = judged(self._people.run.extended_s, False)
        self._is_judged = True
        if self._loaded is not None and (is_due or self._decision is not None):
            self._published_us = now_us
            self._publish(loaded, judgement, broken, now_us)

    def _looked(self, loaded: _Loaded, judged: Callable[[int, bool], Judgement], broken: str, now_us: int) -> Judgement:
        """Judge by evidence and people, and decide; what is shown is the stage that the run is in then."""
        self._people.look()
        self._note(loaded)
        state = loaded.state
        if self._loaded is None or self._decision is not None:
            return judged(self._people.run.extended_s, False)
        evidence = self._people.judged(state.folded, judged, is_broken=bool(broken))
        judgement, command_id = self._ruled(loaded, evidence, broken, now_us)
        if state.folded >= self._started.first_tile and judgement.stage.name == state.stage:
            loaded.trace.add(state.folded, judgement)
        if any(decision.step == state.step + 1 for decision in self._taken):
            return judgement  # the next step is decided already, at a tile that is still to be folded again
        step = state.step
        judgement = self._decide(loaded, judgement, command_id)
        is_next = self._loaded is not None and self._decision is None and state.step > step
        return judged(self._people.run.extended_s, False) if is_next else judgement

    def _note(self, loaded: _Loaded) -> None:
        """Take over what other gates have decided since."""
        known = {decision.step for decision in self._taken}
        new = [decision for decision in self._people.run.decisions if decision.step not in known]
        if new:
            self._taken = sorted([*self._taken, *new], key=lambda decision: decision.step)
            self._take_over(loaded)
            if self._taken[-1].to_stage in FINAL_STAGES:
                self._decision = self._taken[-1]

    def _ruled(self, loaded: _Loaded, evidence: Judgement, broken: str, now_us: int) -> tuple[Judgement, str]:
        """What to do at the last tile, and the command that it obeys, by evidence, people and the run's longest age."""
        run, order = self._people.run, self._people.order
        judgement = under_hold(run, loaded.state.folded, evidence)
        if broken:
            judgement = dataclasses.replace(judgement, decision=HOLD, culprits=(), reason=broken)
        if order is not None and judgement.decision != ROLLBACK:
            return obeying(evidence, order), order.command.command_id
        if judgement.decision == HOLD and loaded.state.stage != WATCH:
            reason = self._end(run, now_us)
            if reason:
                reason = f"{reason}: {judgement.reason}"
                judgement = dataclasses.replace(judgement, decision=EXPIRE, reason=reason)
        return judgement, ""

    def _end(self, run: Run, now_us: int) -> str:
        """Why a run ends undecided; empty where it goes on."""
        if now_us >= run.expires_us:
            return f"the run reached its longest age of {self._policy.expires_s + run.extended_s:g} s undecided"
        promoted = promoted_after(self._people.records, self._started)
        return f"{PROMOTED_ELSEWHERE} {promoted.run} was promoted" if promoted is not None else ""

    def _decide(self, loaded: _Loaded, judgement: Judgement, command_id: str) -> Judgement:
        """4. Write the decision, unless its step is there already, or someone ordered something in between.

        Returns:
            The judgement, held where the candidate has to wait for another one's.
        """
        made = decide(
            loaded.state,
            judgement,
            positions=loaded.positions,
            decided_us=self._clock.now_us(),
            upstream=self._upstream,
        )
        if made is None:
            return judgement
        try:
            decision = self._written(dataclasses.replace(made, command_id=command_id))
        except Unavailable:
            self._loaded = None  # decided in memory only; loading forgets it, and the tile is judged again
            raise
        if decision is None:
            if self._waits_for:
                return dataclasses.replace(judgement, decision=HOLD, reason=self._waits_for)
            self._loaded = None
            return judgement
        self._taken.append(decision)
        self._take_over(loaded)
        if decision.to_stage in FINAL_STAGES:
            self._decision = decision
        self._reached("decided")
        log.info("%s: %s to %s: %s", decision.run, decision.decision, decision.to_stage, decision.reason)
        return judgement

    def _written(self, made: Decision) -> Decision | None:
        """The step's decision as the topic has it, this or another gate's.

        None if someone ordered something since, or if the candidate has to wait for another one's (`_waits_for`).
        """
        known = self._people.run
        is_to_live = made.to_stage in (CANARY, WATCH)

        def build(records: Sequence[LogRecord]) -> bytes | None:
            contents = decisions_in(records)
            run = self._people.run_in(contents)
            self._waits_for = self._rival(contents) if is_to_live else ""
            if decided(run, made.step) is not None or self._waits_for or forbidden(known, run, made):
                return None
            return encode(made)

        # A look fences nobody: what another gate has decided needs no transaction.
        there = decided(self._people.refresh(), made.step)
        self._waits_for = self._rival(self._people.records) if is_to_live else ""
        if there is not None or self._waits_for or forbidden(known, self._people.run, made):
            return there
        if self._writer.append(f"{made.run}/{made.step}".encode(), build) is None:
            return decided(self._people.refresh(), made.step)
        self._metrics.inc("shadow_decisions_total", decision=made.decision)
        return made

    def _rival(self, records: Sequence[DecisionsRecord]) -> str:
        """Why the candidate must not serve live requests now; empty where it may."""
        other = live_beside(runs_in(records), self._started)
        return f"{other.name} has live traffic, and only one candidate may" if other is not None else ""

    def _publish(self, loaded: _Loaded, judgement: Judgement, broken: str, now_us: int) -> None:
        """Tell metrics, the store and this machine what is known now."""
        foreseen = loaded.foreseen
        if foreseen is None or foreseen.tile != loaded.state.folded:
            foreseen = loaded.foreseen = _foreseen(loaded.state, judgement)
        noise = loaded.noise if self._noise is not None else None
        publish_operating(self._metrics, self._started.run, foreseen.detectable, noise, budget(judgement.stage))
        told = told_of(loaded.state, judgement, foreseen.ways, loaded.trace, noise)
        view = view_of(self._started, loaded.state, judgement, self._decision, broken, now_us, self._taken) | told
        view |= {"people": people_tree(self._people.run), "expires_us": self._people.run.expires_us}
        stage = "broken" if broken else (self._decision.to_stage if self._decision else loaded.state.stage)
        publish(self._metrics, self._started.run, stage, loaded.state.window_pairs, judgement, now_us)
        self._metrics.set("shadow_gate_held", float(bool(view["people"]["holds"])), run=self._started.run)
        last_known.save(f"run-{self._started.run}", view)
        change = Change(version=str(uuid.uuid4()), state={"view": orjson.dumps(view)})
        try:
            self._store.swap(self._started.run, loaded.version, change)
            loaded.version = change.version
        except Refused:
            self._loaded = None


def decided(run: Run, step: int) -> Decision | None:
    """The decision of a step."""
    return next((each for each in run.decisions if each.step == step), None)


def _foreseen(state: RunState, judgement: Judgement) -> _Foreseen:
    stage = state.stages[judgement.stage.name]
    seen = state.seen_by(stage)
    ways = flips_of(stage.compiled, seen, judgement.rules)
    found = detectable_today(stage.compiled, seen, judgement, stage.longest_s)
    return _Foreseen(state.folded, ways, found)


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
