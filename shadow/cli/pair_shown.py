"""Show graded pairs: side by side on a terminal, or as JSON.

Everything in a pair was written by users and models, so control characters are shown as escapes, never sent.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from shadow.records.comparisons import CANDIDATE, ROLES_BY_COMPARISON
from shadow.records.grades import BROKEN, FAILED, PASSED, Grade
from shadow.records.pairs import GradedPair
from shadow.training.texts import any_answer_of, any_prompt_of

CHARACTERS_MAX: Final = 1500
"""How much of a text is shown on a terminal; JSON has all of it."""
_STYLES: Final = {PASSED: "green", FAILED: "bold red", BROKEN: "magenta"}
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories that move a cursor, turn a line round, or are not seen."""


def escaped(text: str) -> str:
    """A text that does nothing to a terminal: control and format characters as escapes, line ends and tabs kept."""
    return "".join(map(_safe, text.replace("\r\n", "\n")))


def _safe(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def _cut(text: str, characters_max: int) -> str:
    if len(text) <= characters_max:
        return escaped(text)
    return f"{escaped(text[:characters_max])}\n… {len(text) - characters_max:,} more characters"


def prompt_text(pair: GradedPair) -> str:
    """What was asked: the one message, or the turns of a chat with their roles."""
    messages = any_prompt_of(pair.request_body).messages
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def pair_panel(pair: GradedPair, *, characters_max: int = CHARACTERS_MAX) -> RenderableType:
    """The request, both answers side by side, and what each grader says of them.

    Args:
        characters_max: How much of the request and of each answer is shown.
    """
    reference = ROLES_BY_COMPARISON[pair.comparison][0]
    head = f"{pair.request_partition}/{pair.request_offset}  {pair.request_id}  {', '.join(pair.slices)}"
    answers = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True, pad_edge=False)
    for role, outcome in ((reference, pair.production_outcome), (CANDIDATE, pair.candidate_outcome)):
        answers.add_column(Text(f"{role} ({outcome})"), ratio=1, overflow="fold")
    bodies = (pair.production_body, pair.candidate_body)
    answers.add_row(*(Text(_cut(any_answer_of(body), characters_max)) for body in bodies))
    return Group(
        Rule(Text(escaped(head)), align="left", style="dim"),
        Text(_cut(prompt_text(pair), characters_max), style="italic"),
        Text(),
        answers,
        Text(),
        _grades(pair, reference),
    )


def _grades(pair: GradedPair, reference: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=True, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    for grader, by_role in sorted(pair.grades.items()):
        table.add_row(Text(escaped(grader)), _grade(by_role.get(reference)), _grade(by_role.get(CANDIDATE)))
    return table


def _grade(grade: Grade | None) -> Text:
    if grade is None:
        return Text("–", style="dim")
    score = "" if grade.score is None else f" {grade.score:.3g}"
    reason = f": {escaped(grade.reason)}" if grade.reason else ""
    return Text.assemble((grade.outcome.replace("_", " "), _STYLES.get(grade.outcome, "dim")), score, reason)


def json_text(value: Any) -> str:
    """JSON in ASCII, so that it does nothing to a terminal either."""
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)


def pairs_panel(pairs: Sequence[GradedPair]) -> RenderableType:
    """Several pairs, one below the other."""
    return Group(*(pair_panel(pair) for pair in pairs))
