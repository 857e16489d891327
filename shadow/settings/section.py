"""What all sections of the configuration have in common: frozen, and closed to unknown keys."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

WHOLE: Final = "shadow_whole"


class Section(BaseModel):
    """A mapping of the configuration. Keys are as in the file; attributes may have other names, with their unit."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_by_name=True, validate_by_alias=True
    )


def refused(must: str) -> PydanticCustomError:
    """The error of one value; `must` goes on after "read 2, ", for example `must be a rate in (0, 1]`."""
    return PydanticCustomError("shadow", "{must}", {"must": must})


def refused_whole(sentence: str) -> PydanticCustomError:
    """The error of a whole mapping, whose value is not quoted."""
    return PydanticCustomError(WHOLE, "{sentence}", {"sentence": sentence})
