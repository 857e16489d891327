"""The token of the gate's writing routes is a secret of the configuration."""

from __future__ import annotations

import pytest
import yaml

from shadow.errors import InvalidConfiguration, Usage
from shadow.settings.loader import settings_from_bytes
from shadow.settings.settings import Settings
from tests.replay.world import tree_of


def settings_with(admin: object, env: dict[str, str] | None = None) -> Settings:
    return settings_from_bytes(yaml.safe_dump(tree_of(admin=admin)).encode(), env or {})


def test_the_token_comes_from_the_environment_and_is_not_shown() -> None:
    """
    It is filled in at load, and neither the text of the settings nor a dump shows it; it is no part of the digest.
    """
    settings = settings_with({"token": "env:DESK_TOKEN"}, {"DESK_TOKEN": "s3cret-of-the-desk"})
    assert "s3cret-of-the-desk" == settings.admin.bearer()
    assert "s3cret" not in f"{settings!r}{settings.model_dump()}{settings.model_dump_json()}"
    assert settings_with({}).digest() == settings.digest()
    assert settings_with({}).admin.bearer() is None


def test_a_token_whose_variable_is_not_set_is_asked_for_by_name() -> None:
    """
    Other processes start without it; whoever needs it says which variable is missing.
    """
    with pytest.raises(Usage, match=r"admin\.token: the environment variable DESK_TOKEN is not set"):
        settings_with({"token": "env:DESK_TOKEN"}).admin.bearer()


def test_a_wrong_token_is_refused_without_being_shown() -> None:
    """
    A token with a control character is a sentence that does not quote it.
    """
    with pytest.raises(InvalidConfiguration, match="read a value that is not shown") as refused:
        settings_with({"token": "s3cret\nsecond line"})
    assert "s3cret" not in str(refused.value)
