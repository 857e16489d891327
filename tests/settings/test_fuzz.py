"""Whatever stands in a file, it loads or is refused in sentences."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.settings.configurations import BASE, problems_of

LINES = BASE.splitlines()


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_bytes(content):
    """
    Bytes of any kind are refused in sentences that name the file.
    """
    assert all(problem.startswith("shadow.yaml:") for problem in problems_of(content))


@given(st.integers(0, len(LINES) - 1), st.integers(0, 60), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_text_in_any_place(line, column, text):
    """
    Text typed into a good file leaves it good, or is refused in sentences.
    """
    changed = [*LINES]
    changed[line] = changed[line][:column] + text + changed[line][column:]

    assert all(problem.startswith("shadow.yaml:") for problem in problems_of("\n".join(changed)))


@given(st.integers(0, len(LINES) - 1), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_any_lines_missing(line, lines):
    """
    A file without some of its lines is good, or is refused in sentences.
    """
    text = "\n".join(LINES[:line] + LINES[line + lines :])

    assert all(problem.startswith("shadow.yaml:") for problem in problems_of(text))
