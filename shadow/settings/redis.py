"""`redis`: where the store is; the word `embedded` stands for the built-in one."""

from __future__ import annotations

from pydantic import SecretStr, field_validator

from shadow.settings.names import Secret
from shadow.settings.section import Section, refused


class Redis(Section):
    """The store.

    Args:
        url: `redis://`, `rediss://` or `unix://`; may carry a password, or be `env:NAME`. It ends in `?cluster=true`
            for a cluster.
    """

    url: Secret

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://", "env:")):
            raise refused("must be a URL such as redis://redis:6379/0, or env: and the name of a variable")
        return value
