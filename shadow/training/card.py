"""The card beside an export: the columns and their types, so that `load_dataset(FOLDER)` need not guess them. Pure.

Without it a column whose first values are all null or empty has no type, and a later value does not fit: `datasets`
takes the types from the first 10 MB of a file.

Source: Hugging Face, "Create a dataset card" and "Manual configuration": `dataset_info.features` and `configs`.
"""

from __future__ import annotations

from typing import Any, Final

from shadow.training.rows import MESSAGES, PAIRS, PREFERENCE, SFT, Source

MARK: Final = "<!-- written by shadow export -->"
"""Tells a card of ours from somebody's own README."""

_CHAT: Final = {"role": "string", "content": "string"}
_STRING: Final = "string"
_COLUMNS: Final[dict[str, dict[str, Any]]] = {
    SFT: {"prompt": _CHAT, "completion": _CHAT},
    MESSAGES: {"messages": _CHAT},
    PREFERENCE: {"prompt": _CHAT, "chosen": _CHAT, "rejected": _CHAT},
    PAIRS: {
        "prompt": _CHAT,
        "request": _STRING,
        "reference_role": _STRING,
        "reference": _STRING,
        "reference_outcome": _STRING,
        "candidate": _STRING,
        "candidate_outcome": _STRING,
    },
}
_GRADE: Final = {"grader": "string", "version": "string", "role": "string", "outcome": "string", "score": "float64"}
_PROVENANCE: Final = {
    "run": "string",
    "configuration": "string",
    "production": "string",
    "candidate": "string",
    "comparison": "string",
    "request_id": "string",
    "partition": "int64",
    "offset": "int64",
    "prompt_from": "string",
    "answer_of": "string",
    "preferred": "string",
    "preferred_by": "string",
}


def features(format: str) -> list[dict[str, Any]]:
    """The columns of a format with their types, as a dataset card says them."""
    columns = [
        {"name": name, "dtype": kind} if kind == _STRING else {"name": name, "list": _fields(kind)}
        for name, kind in _COLUMNS[format].items()
    ]
    return [
        *columns,
        # `sequence` is read by every version of `datasets`, its successor `list` only by those from 4.0 on.
        {"name": "slices", "sequence": "string"},
        {"name": "grades", "list": _fields({**_GRADE, "reason": "string"})},
        {"name": "provenance", "struct": _fields(_PROVENANCE)},
    ]


def _fields(kinds: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "dtype": kind} for name, kind in kinds.items()]


def card_tree(format: str, file: str) -> dict[str, Any]:
    """The head of the card.

    Args:
        file: Name of the data file beside the card.
    """
    return {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": file}]}],
        "dataset_info": {"features": features(format)},
    }


def card_text(format: str, source: Source, rows: int) -> str:
    """The card's text below its head."""
    return (
        f"{MARK}\n\n# {source.run}: {format}\n\n"
        f"{rows:,} rows out of the graded pairs of the run `{source.run}`: `{source.candidate}` against "
        f"`{source.production}`, configuration `{source.configuration}`.\n\n"
        "The rows hold copies of live traffic as it was recorded: treat them as you treat that.\n"
    )
