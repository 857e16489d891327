"""One run, tile by tile: fold closed tiles in order, judge, decide.

    tile f ──► change detector (with the totals before f) ──► totals ──► digest ──► judge ──► decide, once

With main tile f goes the tile of each other comparison that lies its deadline behind, so that no timing decides.

Pure: everything follows from the tiles 1 to f, whenever the gate looks; time is an argument.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from shadow.gate.compiled import CompiledStage, compile_tests
from shadow.gate.evidence import evidence_tree
from shadow.gate.judgement import Judgement, judgement_to_json
from shadow.gate.measures import Evidence
from shadow.gate.observe import Observation, observe
from shadow.gate.rules import groups_of, judge
from shadow.gate.stats import detector
from shadow.gate.stats.engine import BETS, HISTOGRAM, Floats, cached_log_factors
from shadow.gate.totals import Totals, evidence_from_totals, own_parts, slices_from_vectors
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name
from shadow.records.decisions import EXPIRE, HOLD, PROMOTE, ROLLBACK, Decision
from shadow.records.policy import Policy
from shadow.records.slices import ALL
from shadow.records.tallies import Key, Tally

FORMAT: Final = 2
"""Number of the state's layout; another one is refused, and the state is folded again from the log."""

NAMESPACE: Final = uuid.UUID("6b0f2c1e-7a43-5d2b-9c8e-5f1d0a7e4c36")
"""Namespace of decision ids."""

NO_OTHERS: Final[Mapping[str, Tally]] = MappingProxyType({})

TO_STAGE: Final = {PROMOTE: "done", ROLLBACK: "rolled_back", EXPIRE: "expired"}
"""Where a decision leads from `shadow`; canary steps are not taken yet."""


@dataclass(slots=True)
class RunState:
    """State of one stage of a run after a number of tiles. `fold_tile` changes it in place.

    Args:
        run: Run id.
        stage: The stage that the tiles belong to.
        first_tile: Number of the run's first tile.
        folded: Number of the last tile folded; `first_tile` - 1 before the first.
        tiles_digest: SHA-256 chain over all tiles folded: sha256(previous, number, bytes of the merged tile).
        totals: Counts of all tiles folded, of the main comparison.
        others: The same of the other comparisons that rules of the policy read.
        log_r: Log R of the change detector, by rollback test and bet.
        window: (tile, pairs of slice `all`) of the tiles within the policy's window.
        step: Number of decisions already taken.
        latched: Decision that was taken in this stage; empty if none.
    """

    run: str
    stage: str
    policy: Policy
    first_tile: int
    folded: int
    tiles_digest: bytes
    totals: Totals
    others: dict[str, Totals]
    log_r: Floats
    compiled: CompiledStage
    window: deque[tuple[int, int]] = field(default_factory=deque)
    step: int = 0
    latched: str = ""
    _evidence: Evidence | None = None
    _seen: list[Observation] | None = None

    @classmethod
    def begin(cls, run: str, policy: Policy, first_tile: int, stage: str = "shadow") -> RunState:
        """State before the first tile.

        Raises:
            ValueError: If the policy has no such stage.
        """
        found = next((each for each in policy.stages if each.name == stage), None)
        if found is None:
            raise ValueError(f"the policy has no stage {stage!r}; it has {', '.join(s.name for s in policy.stages)}")
        compiled = compile_tests(found)
        return cls(
            run=run,
            stage=stage,
            policy=policy,
            first_tile=first_tile,
            folded=first_tile - 1,
            tiles_digest=b"\0" * 32,
            totals=Totals(),
            others={name: Totals() for name in policy.comparisons if name != CANDIDATE_PRODUCTION},
            log_r=detector.fresh(len(compiled.detecting)),
            compiled=compiled,
        )

    @property
    def evidence(self) -> Evidence:
        """Evidence of the totals, without attempt, freshness and change detector."""
        if self._evidence is None:
            others = {name: own_parts(self._evidence_of(totals), totals) for name, totals in self.others.items()}
            self._evidence = replace(self._evidence_of(self.totals), others=others)
        return self._evidence

    def _evidence_of(self, totals: Totals) -> Evidence:
        return evidence_from_totals(
            totals,
            totals.corrections(self.compiled.stage),
            self.window_pairs,
            stage=self.compiled.stage,
            attempt=1,
            age_s=self.age_s,
            freshness_s=None,
            log_sr=None,
        )

    @property
    def seen(self) -> list[Observation]:
        """What each rule sees of the evidence."""
        if self._seen is None:
            evidence = self.evidence
            self._seen = [observe(rule, evidence) for rule in self.compiled.stage.rules]
        return self._seen

    @property
    def window_pairs(self) -> int:
        """Pairs of slice `all` within the policy's window."""
        return sum(pairs for _, pairs in self.window)

    @property
    def age_s(self) -> float:
        """Age of the stage at the end of the last tile folded, by the log's time."""
        return (self.folded + 1 - self.first_tile) * self.policy.tile_us / 1e6

    def tiles_longest_age(self, extended_s: int = 0) -> int:
        """T: tiles in the stage's longest age, with what people added to it."""
        return math.ceil((self.policy.expires_s + extended_s) * 1_000_000 / self.policy.tile_us)

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

    1. The change detector takes the tile, scaled by the design effects of the totals before it.
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
    _detect(state, {CANDIDATE_PRODUCTION: merged, **others})
    state.totals.add(merged)
    content = merged.to_bytes() if merged_bytes is None else merged_bytes
    state.tiles_digest = hashlib.sha256(state.tiles_digest + str(tile_number).encode() + content).digest()
    for name, number in lagging.items():
        state.others[name].add(others[name])
        content = tile_name(number, name).encode() + others[name].to_bytes()
        state.tiles_digest = hashlib.sha256(state.tiles_digest + content).digest()
    paired = merged.vectors.get(Key(ALL, "classes", ""), [0])[0]
    state.window.append((tile_number, paired))
    oldest = tile_number - state.compiled.stage.needs.within_s * 1_000_000 // state.policy.tile_us
    while state.window and state.window[0][0] <= oldest:
        state.window.popleft()
    state.folded = tile_number
    state._evidence = state._seen = None
    return state


def _detect(state: RunState, tiles: Mapping[str, Tally]) -> None:
    compiled, rules = state.compiled, state.compiled.stage.rules
    parts = {name: Evidence(slices=slices_from_vectors(t.vectors, compiled.stage, {})) for name, t in tiles.items()}
    tile = replace(parts.pop(CANDIDATE_PRODUCTION), others=parts)
    known = state.seen
    new = [observe(rule, tile) for rule in rules]
    # R stays 0 until the totals before this tile fill enough hash cells.
    has_tile = (name in tiles for name in compiled.comparisons)
    is_running = np.array(
        [seen.n > 0 and seen.is_spread and has for seen, has in zip(known, has_tile, strict=True)], dtype=bool
    )
    increments = _increments(compiled, known, new)
    tests = np.array([compiled.tests[index].rule for index in compiled.detecting], dtype=np.int64)
    state.log_r = detector.step(state.log_r, increments, is_running[tests])


def _increments(compiled: CompiledStage, known: list[Observation], new: list[Observation]) -> Floats:
    """Log factors of a tile, summed over its counts over the design effects so far. Shape (J, 29)."""
    letters = np.array([seen.letters for seen in new], dtype=np.float64).reshape(-1, 3)
    effects = np.array([seen.effect for seen in known])
    places = _places(compiled)
    counts = (letters / effects[:, None])[compiled.small_rule[places]]
    result: Floats = (counts[:, None, :] * compiled.small_factors[places]).sum(axis=-1)
    for row, index in enumerate(compiled.detecting):
        test = compiled.tests[index]
        bins = new[test.rule].histogram
        if bins is not None:
            factors = cached_log_factors(HISTOGRAM, test.mean, test.side)
            result[row] = (factors * (np.array(bins) / effects[test.rule])).sum(axis=-1)
    return result


def _places(compiled: CompiledStage) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where the detecting tests stand among the small ones."""
    return np.searchsorted(compiled.small, np.array(compiled.detecting, dtype=np.int64))


def judge_tile(
    state: RunState, *, attempt: int = 1, freshness_s: float = 0.0, with_bounds: bool = False, extended_s: int = 0
) -> Judgement:
    """Judge the totals after the last tile folded; the stage's age is the log's.

    Args:
        attempt: Ordinal of the run among those of its candidate and production.
        freshness_s: Age of the last tile's end; it may hold the gate, so a replay passes 0.
        with_bounds: Whether lines carry confidence bounds while the gate holds; a decision always does.
        extended_s: Seconds that people added to the longest age, as far as they hold at this tile.
    """
    log_sr, parts = _detector(state)
    evidence = replace(state.evidence, attempt=attempt, freshness_s=freshness_s, log_sr=log_sr)

    def judged(with_bounds: bool) -> Judgement:
        return judge(
            state.compiled,
            evidence,
            expires_s=state.policy.expires_s + extended_s,
            tiles_longest_age=state.tiles_longest_age(extended_s),
            freshness_s_max=state.freshness_s_max,
            detector=parts,
            with_bounds=with_bounds,
            seen=state.seen,
        )

    judgement = judged(with_bounds)
    # A decision is written down with its bounds, so they are worth their time then.
    return judged(True) if judgement.decision != HOLD and not with_bounds else judgement


def _detector(state: RunState) -> tuple[float | None, dict[str, float]]:
    """The change detector's log sum, of the comparison where it is largest, and each rule's part in it.

    A BROKEN rule has none.
    """
    compiled = state.compiled
    if not compiled.detecting:
        return None, {}
    tests = [compiled.tests[index] for index in compiled.detecting]
    is_broken = [bool(seen.trouble) for seen in state.seen]
    priors = compiled.small_priors[_places(compiled)]
    weights = np.array([-np.inf if is_broken[test.rule] else math.log(test.weight) for test in tests])
    by_test = detector.log_r_by_test(state.log_r, priors) + weights
    parts: dict[str, float] = {}
    for test, value in zip(tests, by_test.tolist(), strict=True):
        if math.isfinite(value):
            name = compiled.ids[test.rule]
            parts[name] = float(np.logaddexp(parts.get(name, -np.inf), value))
    sums = []
    for group in groups_of(compiled):
        rows = [row for row, test in enumerate(tests) if compiled.comparisons[test.rule] == group]
        sums.append(detector.log_sr(state.log_r[rows], priors[rows], weights[rows]))
    return max((value for value in sums if value is not None), default=None), parts


def decide(state: RunState, judgement: Judgement, *, positions: tuple[int, ...], decided_us: int) -> Decision | None:
    """Turn a judgement into the stage's one decision, and latch it in the state.

    Args:
        state: The state that was judged.
        judgement: From `judge_tile`.
        positions: Answers offset of each partition behind the record that closed the last tile.
        decided_us: By the gate's clock.

    Returns:
        The decision; None while the gate holds, or once the stage has been decided.
    """
    if judgement.decision == HOLD or state.latched:
        return None
    state.step += 1
    state.latched = judgement.decision
    return Decision(
        decision_id=decision_id(state.run, state.step),
        run=state.run,
        step=state.step,
        decision=judgement.decision,
        from_stage=state.stage,
        to_stage=TO_STAGE[judgement.decision],
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
    )


def decision_id(run: str, step: int) -> str:
    """Id of a run's step: the same on every node, so that a repeat can be told."""
    return str(uuid.uuid5(NAMESPACE, f"{run}/{step}"))


def state_to_bytes(state: RunState) -> bytes:
    """Write a state exactly: a line of JSON with floating-point numbers in hexadecimal, then a line of each totals."""
    head = {
        "format": FORMAT,
        "run": state.run,
        "stage": state.stage,
        "first_tile": state.first_tile,
        "folded": state.folded,
        "tiles_digest": state.tiles_digest.hex(),
        "log_r": [[value.hex() for value in row] for row in state.log_r.tolist()],
        "window": list(state.window),
        "comparisons": [CANDIDATE_PRODUCTION, *state.others],
        "step": state.step,
        "latched": state.latched,
    }
    line = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    totals = (state.totals, *state.others.values())
    return b"\n".join((line, *(each.to_tally().to_bytes() for each in totals)))


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
        state = RunState.begin(str(head["run"]), policy, int(head["first_tile"]), str(head["stage"]))
        rows = [[float.fromhex(number) for number in row] for row in head["log_r"]]
        if len(rows) != len(state.log_r) or any(len(row) != BETS for row in rows):
            raise ValueError(f"the state follows {len(rows)} tests; the policy has {len(state.log_r)}")
        state.log_r = np.array(rows, dtype=np.float64).reshape(len(rows), BETS)
        names = [CANDIDATE_PRODUCTION, *state.others]
        if head["comparisons"] != names or len(totals) != len(names):
            raise ValueError(f"the state holds {', '.join(head['comparisons'])}; the policy has {', '.join(names)}")
        state.totals, *others = (Totals.from_tally(Tally.from_bytes(each)) for each in totals)
        state.others = dict(zip(state.others, others, strict=True))
        state.folded = int(head["folded"])
        state.tiles_digest = bytes.fromhex(head["tiles_digest"])
        state.window = deque((int(tile), int(pairs)) for tile, pairs in head["window"])
        state.step, state.latched = int(head["step"]), str(head["latched"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the state cannot be read: {error!r}") from error
    return state
