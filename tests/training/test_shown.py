"""Pairs on a terminal: nothing that users or models wrote reaches it as a command."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from shadow.cli.examples import Examples, blocking_rules, examples_panel
from shadow.cli.pair_shown import CHARACTERS_MAX, escaped, json_text, pairs_panel
from shadow.gate.naming import kind_of, subject_of
from shadow.records.grades import Grade
from shadow.records.policy import Cap, Floor, Needs, Policy, Quality, StagePolicy
from shadow.training.pair_tree import pair_tree
from tests.training.builders import SOURCE, chat, completion, pair_of, pairs


def printed(panel) -> str:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=False, highlight=False).print(panel)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\r\nb\tc\n", "a\nb\tc\n"),
        ("a\rb", "a\\rb"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2028", "\\u2028"),
        ("»π« \U0001f600", "»π« \U0001f600"),
    ],
)
def test_characters_that_command_a_terminal_are_shown_as_escapes(text, shown):
    """
    Control, direction and line marks of all kinds; letters and pictures stay.
    """
    assert shown == escaped(text)


@given(pairs(), st.text(max_size=20))
@example(pair_of(candidate_body=b"\x1b[2J\x9b31m"), "\x1b]0;title\x07\u202e")
@settings(max_examples=20, deadline=None)
def test_no_pair_moves_the_cursor(pair, text):
    """
    Whatever stands in a pair, its id and its reasons, what is printed controls nothing.
    """
    odd = pair_of(1, request_id=text, slices=(text,), grades={text: {"candidate": Grade("failed", None, text)}})
    for written in (printed(pairs_panel([pair, odd])), json_text([pair_tree(each, {}) for each in (pair, odd)])):
        assert {"Cc", "Cf", "Zl", "Zp"}.isdisjoint(map(unicodedata.category, written.replace("\n", "")))


def test_a_pair_is_shown_side_by_side():
    """
    The question, both answers under their roles, each grade with its reason; markup of users is text.
    """
    graded = {"correct": {"production": Grade("passed"), "candidate": Grade("failed", 0.25, "5 is not [bold]4[/bold]")}}
    text = printed(pairs_panel([pair_of(7, grades=graded)]))
    head, question, roles, answers, grades = [line.rstrip() for line in text.splitlines() if line.strip()][:5]
    assert head.startswith("0/7  request-7  all")
    assert ("twice 2?", ["production", "(answered)", "candidate", "(answered)"]) == (question, roles.split())
    assert ["4", "5"] == answers.split()
    assert "correct  passed" in grades and "failed 0.25: 5 is not [bold]4[/bold]" in grades


def test_long_texts_are_cut_and_say_so():
    """
    A page of text hides the next pair.
    """
    text = printed(pairs_panel([pair_of(candidate_body=completion("x" * (CHARACTERS_MAX + 7)))]))
    assert "… 7 more characters" in text
    assert CHARACTERS_MAX == text.count("x")
    assert "user: a" in printed(pairs_panel([pair_of(request_body=chat("a", "b"))]))


def test_the_rules_that_block_have_examples():
    """
    Those of the judged stage that have not passed, the failed ones first; a rule that nothing speaks against says so.
    """
    rules = (Quality({"correct": 1.0}), Floor("tagged"), Cap("tagged"))
    policy = Policy((StagePolicy("shadow", Needs(), rules), StagePolicy("canary", Needs(), rules[:1])))
    verdicts = zip(rules, ("UNDECIDED", "PASS", "FAIL"), strict=True)
    lines = [
        {
            "rule": kind_of(rule),
            "comparison": "candidate-production",
            "slice": "all",
            "grader": subject_of(rule),
            "verdict": verdict,
        }
        for rule, verdict in verdicts
    ]
    found = blocking_rules(policy, {"stage": "shadow", "rules": lines})
    assert [rules[2], rules[0]] == found
    assert [] == blocking_rules(policy, {})
    examples = Examples({"cap/all/tagged": [pair_of(7)], "quality/all": []}, SOURCE.versions, "a note")
    text = printed(examples_panel(examples))
    assert "cap/all/tagged: examples" in text and "0/7" in text
    assert "quality/all: no pair speaks against it" in text and "a note" in text
    assert ["0/7"] == [pair["position"] for pair in examples.tree()["examples"]["cap/all/tagged"]]
