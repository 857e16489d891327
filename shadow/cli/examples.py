"""Example pairs for the rules that fail or block: what `explain --examples` shows below the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from shadow.cli import wiring
from shadow.cli.pair_shown import pair_panel
from shadow.cli.pairs import past_run, versions_of
from shadow.cli.read_pairs import Scanned, read_pairs
from shadow.errors import BrokenEvidence, Unavailable, Usage
from shadow.gate.judgement import Verdict
from shadow.gate.naming import kind_of, rule_id, subject_of
from shadow.records.pairs import GradedPair
from shadow.records.policy import Policy, Rule, comparison_of
from shadow.training.pair_tree import pair_tree
from shadow.training.worst import EXAMPLES_MAX, Worst, against

CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Examples:
    """Example pairs by rule.

    Args:
        pairs: By id of the rule, the worst first.
        versions: Of the graders.
        note: Why there are none; empty where they could be read.
    """

    pairs: Mapping[str, Sequence[GradedPair]]
    versions: Mapping[str, str]
    note: str = ""

    def tree(self) -> dict[str, Any]:
        """As JSON, beside the explanation."""
        return {
            "examples": {
                rule: [pair_tree(pair, self.versions) for pair in found] for rule, found in self.pairs.items()
            },
            "examples_note": self.note,
        }


def examples_of(config: Path | None, document: Mapping[str, Any]) -> Examples:
    """Up to five pairs for each rule of a shown run that has not passed; none, with the reason, while Kafka is away.

    Args:
        document: What `explain` shows of the run.

    Raises:
        Usage: If no configuration is given, or it is another one than the run's.
    """
    if config is None:
        raise Usage("--examples reads the graded pairs from Kafka; say where it is with -c shadow.yaml")
    try:
        past = past_run(str(document["run"]), config)
        blocking = blocking_rules(past.settings.policy(), document.get("judgement") or {})
        worst = {rule_id(rule): Worst(against(rule), EXAMPLES_MAX) for rule in blocking}
        if worst:
            for pair in read_pairs(past.log, past.settings.topics.pairs, past.run.started, Scanned()):
                for each in worst.values():
                    each.add(pair)
    except (Unavailable, BrokenEvidence, wiring.NoneEmbedded) as away:
        return Examples({}, {}, f"no examples, since {away}")
    return Examples({rule: each.pairs() for rule, each in worst.items()}, versions_of(past.settings))


def blocking_rules(policy: Policy, judgement: Mapping[str, Any]) -> list[Rule]:
    """The rules of the judged stage that have not passed, those that failed first."""
    lines = judgement.get("rules", ())
    verdicts = {(each["rule"], each["comparison"], each["slice"], each["grader"]): each["verdict"] for each in lines}
    stage = judgement.get("stage", policy.stages[0].name)
    rules = [rule for each in policy.stages if each.name == stage for rule in each.rules]
    blocking = [rule for rule in rules if verdicts.get(_line_of(rule), Verdict.PASS.name) != Verdict.PASS.name]
    return sorted(blocking, key=lambda rule: verdicts[_line_of(rule)] != Verdict.FAIL.name)


def _line_of(rule: Rule) -> tuple[str, str, str, str]:
    """How the judgement's lines name a rule."""
    return kind_of(rule), comparison_of(rule), rule.slice, subject_of(rule)


def examples_panel(examples: Examples) -> RenderableType:
    """The examples, rule by rule."""
    parts: list[RenderableType] = []
    for rule, pairs in examples.pairs.items():
        parts += [Text(), Text(f"{rule}: " + ("examples" if pairs else "no pair speaks against it"), style="bold")]
        parts += [pair_panel(pair, characters_max=CHARACTERS_MAX) for pair in pairs]
    if examples.note:
        parts.append(Text(examples.note, style="dim"))
    return Group(*parts)
