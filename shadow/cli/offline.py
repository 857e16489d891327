"""`shadow offline`: judge a candidate on a frozen suite, before any traffic."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers.loop import WallClock
from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.adapters.logs import configure
from shadow.adapters.suites import Suite, check_suite, read_suite
from shadow.cli import wiring
from shadow.cli.begin import transactional_id
from shadow.cli.display import DECISIONS, SHORT_VERDICTS, STYLES
from shadow.cli.exits import BROKEN, BY_DECISION, checked_output, exiting
from shadow.cli.offline_run import Asking, Pass, questions_of, roles_of, run_once
from shadow.cli.replay_shown import progress_bar
from shadow.errors import ShadowError, Usage
from shadow.gate.evidence import evidence_tree
from shadow.gate.history import OFFLINE, runs_in, unfinished
from shadow.gate.measures import Evidence
from shadow.gate.naming import rule_id
from shadow.gate.offline import OfflineJudgement, judge_suite, offline_judgement_to_json
from shadow.gate.totals import Totals, evidence_from_tally, own_parts
from shadow.gate.trials import attempt_next, hold_id_of, look_of, trials_in
from shadow.ports import DecisionWriter
from shadow.records.answers import ANSWERED
from shadow.records.comparisons import CANDIDATE_PRODUCTION, PRODUCTION
from shadow.records.decisions import HOLD, PROMOTE, ROLLBACK, Decision, DecisionsRecord, decision_id
from shadow.records.log import LogRecord
from shadow.records.policy import Cost, Latency, Rule, StagePolicy
from shadow.settings.settings import Settings
from shadow.suite.draw import distinct
from shadow.suite.repeat import Difference, differences, noise

SHOWN_MAX: Final = 20
RETRIEVAL: Final = "SHADOW_RETRIEVAL"
"""Environment variable with the folder of the retrieval snapshot, for models that run in this process."""

TO_STAGE: Final = {PROMOTE: "shadow", ROLLBACK: "rolled_back", HOLD: OFFLINE}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(offline))


def offline(
    suite: Annotated[Path, typer.Argument(help="Folder of the suite.", metavar="SUITE")],
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")] = Path(
        "shadow.yaml"
    ),
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
    unrecorded: Annotated[
        bool, typer.Option("--unrecorded", help="Only say it: no Kafka is needed, and no run may begin on it.")
    ] = False,
) -> int:
    """Run candidate and production twice over a frozen suite, require the same grades, and decide by exact tests."""
    checked_output(output)
    configure("text", "error")
    settings = wiring.settings_from(config)
    stage = settings.offline_policy()
    if stage is None:
        raise Usage(f"{config} has no stages.offline, whose rules a suite is judged by; add them there")
    found = read_suite(suite)
    with closing(_Board(settings, is_wanted=not unrecorded)) as board:
        trial = Trial.of(settings, board.records(), found)
        done = _tried(settings, stage, trial)
        try:
            if done.judgement is not None:
                board.keep(done)
        except ShadowError as trouble:
            # The runs took their time, so what they showed is shown even where it cannot be kept.
            _show(done, f"the decision was not kept: {trouble}", output)
            raise
        _show(done, board.note, output)
    return BROKEN if done.judgement is None else BY_DECISION[done.judgement.decision]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried.

    Args:
        run: Name of the run that the next `shadow start` takes.
        records: What the decisions topic says.
    """

    settings: Settings
    suite: Suite
    run: str
    attempt: int
    records: Sequence[DecisionsRecord]

    @classmethod
    def of(cls, settings: Settings, records: Sequence[DecisionsRecord], suite: Suite) -> Trial:
        """The next trial.

        Raises:
            Usage: If a run of this configuration is going on, which no suite can begin any more.
        """
        going_on = unfinished(runs_in(records), settings.digest())
        if going_on is not None:
            raise Usage(
                f"the run {going_on.name} of this configuration is going on in the stage {going_on.stage}, so the "
                "offline stage is behind it; judge the suite all the same with --unrecorded"
            )
        attempt = attempt_next(records, settings.run.candidate, settings.run.production)
        return cls(settings, suite, settings.run_name(attempt), attempt, records)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it.

    Args:
        requests: Requests that counted; `repeated` had the content of an earlier one, `of_session` its session.
        differences: Grades that the two runs do not agree on; noise: their share, by grader.
        judgement: None where the differences forbid one.
        evidence: What was judged.
        data_digest: Digest of the suite, the configuration and everything that was counted.
        look: Ordinal of this look at the candidate.
    """

    trial: Trial
    requests: int
    repeated: int
    of_session: int
    differences: tuple[Difference, ...]
    noise: dict[str, float]
    judgement: OfflineJudgement | None
    evidence: Evidence
    data_digest: str
    look: int


def _tried(settings: Settings, stage: StagePolicy, trial: Trial) -> Tried:
    suite = trial.suite
    requests, repeated, of_session = distinct(suite.requests)
    if suite.retrieval is not None:
        os.environ[RETRIEVAL] = str(suite.retrieval)
    questions = questions_of(requests)
    with closing(Asking(settings, roles_of(stage), suite.manifest.digest)) as asking:
        with progress_bar("first run") as progress:
            first = run_once(settings, stage, trial.run, asking, questions, progress)
        judged = replace(stage, rules=tuple(_with_reference(rule, first) for rule in stage.rules))
        with progress_bar("second run") as progress:
            second = run_once(settings, judged, trial.run, asking, questions, progress)
    # Whoever changes a file meanwhile has not frozen it.
    check_suite(suite.folder, suite.manifest)
    before, after = first.grades(stage), second.grades(stage)
    found = differences(before, after)
    evidence = _evidence_of(second, judged)
    costs = {rule_id(rule): second.costs(rule) for rule in judged.rules if isinstance(rule, Cost)}
    counted = b"\n".join(tally.to_bytes() for tally in second.tallies.values()) + repr(costs).encode()
    head = f"{settings.digest()} {suite.manifest.digest} ".encode()
    digest = sha256(head + counted).hexdigest()
    run = settings.run
    look = look_of(trial.records, run.candidate, run.production, trial.attempt, hold_id_of(trial.run, digest))
    is_strict = settings.stages.offline is not None and settings.stages.offline.repeat == "strict"
    return Tried(
        trial=trial,
        requests=len(requests),
        repeated=repeated,
        of_session=of_session,
        differences=tuple(found),
        noise=noise(found, before),
        judgement=None if found and is_strict else judge_suite(judged, evidence, costs, look=look),
        evidence=evidence,
        data_digest=digest,
        look=look,
    )


def _with_reference(rule: Rule, first: Pass) -> Rule:
    """A latency rule without a reference gets it from production's answers of the first run: the second is judged."""
    if not isinstance(rule, Latency) or rule.reference_us is not None:
        return rule
    took = sorted(
        reply.first_byte_us if rule.quantity == "first_byte" else reply.duration_us
        for reply in first.replies[PRODUCTION]
        if reply.outcome == ANSWERED
    )
    return replace(rule, reference_us=took[math.ceil(rule.quantile * len(took)) - 1]) if took else rule


def _evidence_of(done: Pass, stage: StagePolicy) -> Evidence:
    found = {
        name: evidence_from_tally(
            tally, len(done.pairs), stage=stage, attempt=1, age_s=0.0, freshness_s=0.0, log_sr=None
        )
        for name, tally in done.tallies.items()
    }
    main = found.pop(CANDIDATE_PRODUCTION)
    others = {name: own_parts(each, Totals.from_tally(done.tallies[name])) for name, each in found.items()}
    return replace(main, others=others)


class _Board:
    """The decisions topic, or the reason why there is none.

    Args:
        is_wanted: Whether a decision shall be kept at all.
    """

    def __init__(self, settings: Settings, *, is_wanted: bool) -> None:
        self._settings = settings
        self._writer: DecisionWriter | None = None
        self.note = "" if is_wanted else "not recorded, as --unrecorded asks"
        if not is_wanted:
            return
        try:
            log = wiring.open_log(settings)
        except wiring.NoneEmbedded as away:
            self.note = f"the decision cannot be kept, so no run may begin on it: {away}"
            return
        wiring.create_topics(settings, log)
        self._writer = log.decisions(settings.topics.decisions, transactional_id(settings))

    def records(self) -> Sequence[DecisionsRecord]:
        """What the topic says; nothing where there is none."""
        return decisions_in(self._writer.read()) if self._writer is not None else ()

    def keep(self, done: Tried) -> None:
        """Write the decision, once; `note` says what became of it.

        Raises:
            Usage: If the run that it is for has begun or was decided meanwhile.
        """
        if self._writer is None:
            return
        made = decision_of(done, WallClock().now_us())

        def build(records: Sequence[LogRecord]) -> bytes | None:
            known = decisions_in(records)
            if any(trial.decision.decision_id == made.decision_id for trial in trials_in(known)):
                return None
            run = self._settings.run
            attempt = attempt_next(known, run.candidate, run.production)
            if attempt != done.trial.attempt:
                raise Usage(
                    f"another run of {run.candidate} began or was decided meanwhile, so {made.run} is not the next one "
                    "any more; run `shadow offline` again"
                )
            return encode(made)

        place = made.decision_id if made.decision == HOLD else str(made.step)
        written = self._writer.append(f"{made.run}/{place}".encode(), build)
        self.note = "" if written is not None else f"a decision of {made.run} stands already, and nothing was written"

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()


def decision_of(done: Tried, now_us: int) -> Decision:
    """The decision as it is written down."""
    judgement, trial = done.judgement, done.trial
    assert judgement is not None, "only what was judged is decided"
    is_hold = judgement.decision == HOLD
    return Decision(
        decision_id=hold_id_of(trial.run, done.data_digest) if is_hold else decision_id(trial.run, 0),
        run=trial.run,
        step=0,
        decision=judgement.decision,
        from_stage=OFFLINE,
        to_stage=TO_STAGE[judgement.decision],
        tile=0,
        tiles_digest=done.data_digest,
        positions=(),
        culprits=judgement.culprits,
        reason=judgement.reason,
        evidence=json.dumps(
            {**_facts(done), "evidence": evidence_tree(done.evidence)},
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        ),
        decided_us=now_us,
    )


def _facts(done: Tried) -> dict[str, Any]:
    trial, settings, manifest = done.trial, done.trial.settings, done.trial.suite.manifest
    return {
        "run": {
            "name": trial.run,
            "candidate": settings.run.candidate,
            "production": settings.run.production,
            "digest": settings.digest(),
            "attempt": trial.attempt,
            "look": done.look,
        },
        "suite": {
            "name": manifest.name,
            "digest": manifest.digest,
            "requests": done.requests,
            "repeated": done.repeated,
            "same_session": done.of_session,
        },
        "repeat": {
            "mode": settings.stages.offline.repeat if settings.stages.offline is not None else "strict",
            "differences": len(done.differences),
            "noise": done.noise,
        },
        "judgement": offline_judgement_to_json(done.judgement) if done.judgement is not None else None,
    }


def _show(done: Tried, note: str, output: str) -> None:
    if output == "json":
        tree = {
            **_facts(done),
            "differences": [
                {
                    "request": each.request_id,
                    "comparison": each.comparison,
                    "grader": each.grader,
                    "role": each.role,
                    "first": each.first,
                    "second": each.second,
                }
                for each in done.differences
            ],
            "decision": done.judgement.decision if done.judgement is not None else None,
            "is_kept": done.judgement is not None and not note,
            "note": note,
        }
        typer.echo(orjson.dumps(tree, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console(highlight=False, soft_wrap=True)
    _print_suite(done, console)
    _print_repeat(done, console)
    if done.judgement is not None:
        console.print(rules_table(done.judgement))
        decision = done.judgement.decision
        console.print(Text.assemble((decision, DECISIONS[decision]), f": {done.judgement.reason}"))
        if note:
            console.print(Text(note, style="dim"))


def _print_suite(done: Tried, console: Console) -> None:
    manifest, run = done.trial.suite.manifest, done.trial.settings.run
    left_out = [
        f"{count:,} {why}"
        for count, why in ((done.repeated, "repeat another"), (done.of_session, "are of a session that is there"))
        if count
    ]
    said = f" ({' and '.join(left_out)}: left out)" if left_out else ""
    console.print(
        f"{run.candidate} against {run.production}   run {done.trial.run}   look {done.look}\n"
        f"suite {manifest.name} {manifest.digest[:12]}: {done.requests:,} requests{said}, run twice"
    )


def _print_repeat(done: Tried, console: Console) -> None:
    if not done.differences:
        console.print(f"both runs gave the same {len(done.noise):,} graders' grades of every request", style="green")
        return
    requests = len({each.request_id for each in done.differences})
    shares = ", ".join(f"{name} {share:.2%}" for name, share in done.noise.items() if share)
    console.print(
        f"{len(done.differences):,} grades of {requests:,} requests differ between the two runs ({shares}):",
        style="bold red" if done.judgement is None else "yellow",
    )
    for each in done.differences[:SHOWN_MAX]:
        console.print(f"  {each.sentence}", markup=False)
    if len(done.differences) > SHOWN_MAX:
        console.print(f"  … and {len(done.differences) - SHOWN_MAX:,} more; -o json lists all", markup=False)
    if done.judgement is None:
        console.print(
            "nothing is judged, since what does not repeat cannot be frozen; make models and graders deterministic, or "
            "say stages.offline.repeat: tolerate"
        )


def rules_table(judgement: OfflineJudgement) -> Table:
    """Verdict, pairs, estimate and p-values of each rule."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    widths = {"": 6, "rule": 20, "slice": 14, "pairs": 6, "estimate": 8, "p for/need": 12, "against": 7}
    for place, (name, most) in enumerate(widths.items()):
        table.add_column(name, justify="left" if place < 3 else "right", no_wrap=True, max_width=most)
    for line in judgement.rules:
        table.add_row(
            Text(SHORT_VERDICTS[line.verdict.name], style=STYLES[line.verdict.name]),
            f"{line.rule} {line.grader}".strip(),
            line.slice,
            f"{line.pairs:,}",
            "–" if line.estimate is None else f"{line.estimate:.3g}",
            f"{line.p_pass:.2g}/{line.need:.2g}",
            "–" if line.p_fail is None else f"{line.p_fail:.2g}",
        )
    return table
