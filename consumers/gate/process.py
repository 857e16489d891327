"""The gate: folds closed tiles in order, judges after each, and writes each decision once.

Its protocol (design.md, sections 5 and 7), by number here and in the body:

 1. The next tile is there when every partition that `Started` names has closed it.
 2. The tile's shares are added up, folded into the state, and state and merged tile are written in one
    compare-and-set; refused means that another gate was faster or the store fell back: load again.
 3. The tile is judged. After loading, the last tile is judged again, since the gate may have ended in between.
 4. A decision goes to `shadow-decisions` in a transaction that first reads the topic to its end; if the step
    is there already, that one counts. What people order is obeyed on the way (obey.py).
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from consumers.gate.obey import People
from consumers.gate.published import publish
from shadow.adapters import last_known
from shadow.adapters.avro import encode
from shadow.adapters.logs import Repeated
from shadow.errors import Refused, Unavailable
from shadow.gate.commands import forbidden, obeying, people_tree, under_hold
from shadow.gate.explain import explain, explain_lines
from shadow.gate.history import Run
from shadow.gate.judgement import Judgement, judgement_to_json
from shadow.gate.run import (
    RunState,
    decide,
    fold_tile,
    judge_tile,
    lagging_tiles,
    state_from_bytes,
    state_to_bytes,
)
from shadow.metrics import Metrics
from shadow.ports import Change, Clock, DecisionWriter, Store
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name
from shadow.records.decisions import EXPIRE, HOLD, ROLLBACK, Decision, Started
from shadow.records.log import LogRecord
from shadow.records.policy import Policy
from shadow.records.slices import ALL
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.state import DROPPED, FOLDED, slot_of

log = logging.getLogger("shadow.gate")

IDLE_S = 0.2
PUBLISH_US = 1_000_000
MERGED_KEPT_US = 24 * 3600 * 1_000_000
"""Log time for which merged tiles stay in the store, for displays; judging needs the state alone."""


@dataclass(slots=True)
class _Loaded:
    """The state as it stands in the store, with its version there."""

    state: RunState
    version: str | None
    positions: tuple[int, ...]


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
        four_eyes: bool = False,
    ) -> None:
        self._started = started
        self._policy = policy
        self._store = store
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._reached = reached
        self._people = People(started, writer, clock, four_eyes=four_eyes)
        self._loaded: _Loaded | None = None
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
        stored = self._store.load(self._started.run)
        fresh = RunState.begin(self._started.run, self._policy, self._started.first_tile, self._started.stage)
        state, version, positions = fresh, None, self._started.answers_from
        if stored is not None:
            version, fields = stored
        if stored is not None and "gate" in fields:  # before the first tile only the view is there
            try:
                state = state_from_bytes(fields["gate"], self._policy)
                positions = tuple(orjson.loads(fields["positions"]))
            except (ValueError, KeyError) as error:
                log.warning("the stored state cannot be used (%s); folding all tiles again", error)
        self._loaded = _Loaded(state, version, positions)
        self._is_judged = False
        if run.is_finished:
            self._decision = run.decisions[-1]
            self._look(self._loaded, "")

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
        change = Change(str(uuid.uuid4()), {FOLDED: str(first - 1).encode()}, dropped=("gate", "positions"))
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
        loaded.positions = tuple(share.next for share in shares if share.comparison == CANDIDATE_PRODUCTION)
        self._is_judged = False
        kept = -(-MERGED_KEPT_US // self._policy.tile_us)
        change = Change(
            version=str(uuid.uuid4()),
            state={
                "gate": state_to_bytes(loaded.state),
                "positions": orjson.dumps(loaded.positions),
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
        self._reached("folded")
        return True

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
            self._people.look()
            evidence = self._people.judged(loaded.state.folded, judged, is_broken=bool(broken))
            judgement, command_id = self._ruled(loaded, evidence, broken, now_us)
            self._decide(loaded, judgement, command_id)
            if self._loaded is None:
                return  # someone ordered something in between; the tile is judged again
        else:
            judgement = judged(self._people.run.extended_s, False)
        self._is_judged = True
        if is_due or self._decision is not None:
            self._published_us = now_us
            self._publish(loaded, judgement, broken, now_us)

    def _ruled(self, loaded: _Loaded, evidence: Judgement, broken: str, now_us: int) -> tuple[Judgement, str]:
        """What to do at the last tile, and the command that it obeys, by evidence, people and the run's longest age."""
        run, order = self._people.run, self._people.order
        judgement = under_hold(run, loaded.state.folded, evidence)
        if broken:
            judgement = dataclasses.replace(judgement, decision=HOLD, culprits=(), reason=broken)
        if order is not None and judgement.decision != ROLLBACK:
            return obeying(evidence, order), order.command.command_id
        if judgement.decision == HOLD and now_us >= run.expires_us:
            longest_s = self._policy.expires_s + run.extended_s
            reason = f"the run reached its longest age of {longest_s:g} s undecided: {judgement.reason}"
            judgement = dataclasses.replace(judgement, decision=EXPIRE, reason=reason)
        return judgement, ""

    def _decide(self, loaded: _Loaded, judgement: Judgement, command_id: str) -> None:
        """4. Write the decision, unless its step is there already, or someone ordered something in between."""
        made = decide(loaded.state, judgement, positions=loaded.positions, decided_us=self._clock.now_us())
        if made is None:
            return
        try:
            decision = self._written(dataclasses.replace(made, command_id=command_id))
        except Unavailable:
            self._loaded = None  # decided in memory only; loading forgets it, and the tile is judged again
            raise
        if decision is None:
            self._loaded = None
            return
        self._decision = decision
        self._reached("decided")
        log.info("%s: %s: %s", decision.run, decision.decision, decision.reason)

    def _written(self, made: Decision) -> Decision | None:
        """The step's decision as the topic has it, this or another gate's; None if someone ordered something since."""
        known = self._people.run

        def build(records: Sequence[LogRecord]) -> bytes | None:
            run = self._people.run_in(records)
            if decided(run, made.step) is not None or forbidden(known, run, made):
                return None
            return encode(made)

        # A look fences nobody: what another gate has decided needs no transaction.
        there = decided(self._people.refresh(), made.step)
        if there is not None or forbidden(known, self._people.run, made):
            return there
        if self._writer.append(f"{made.run}/{made.step}".encode(), build) is None:
            return decided(self._people.refresh(), made.step)
        self._metrics.inc("shadow_decisions_total", decision=made.decision)
        self._people.refresh()  # what was ordered of a run that has ended is over
        return made

    def _publish(self, loaded: _Loaded, judgement: Judgement, broken: str, now_us: int) -> None:
        """Tell metrics, the store and this machine what is known now."""
        view = view_of(self._started, loaded.state, judgement, self._decision, broken, now_us)
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


def view_of(
    started: Started, state: RunState, judgement: Judgement, decision: Decision | None, broken: str, now_us: int
) -> dict[str, Any]:
    """What `status` and `explain` show: JSON-ready, made by the gate after a look."""
    everything = judgement.evidence.slices.get(ALL)
    return {
        "run": started.run,
        "attempt": started.attempt,
        "candidate": started.candidate,
        "production": started.production,
        "stage": decision.to_stage if decision else state.stage,
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
        "explain": [dataclasses.asdict(row) for row in explain(judgement)],
        "lines": explain_lines(judgement),
        "decision": decision_tree(decision),
    }


def decision_tree(decision: Decision | None) -> dict[str, Any] | None:
    """A decision as JSON-ready dictionary, its evidence left out."""
    if decision is None:
        return None
    return {
        "decision": decision.decision,
        "decision_id": decision.decision_id,
        "step": decision.step,
        "tile": decision.tile,
        "culprits": list(decision.culprits),
        "reason": decision.reason,
        "command_id": decision.command_id,
        "tiles_digest": decision.tiles_digest,
        "decided_us": decision.decided_us,
    }
