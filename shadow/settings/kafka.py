"""`kafka`: where the log is; the word `embedded` stands for the built-in broker."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import ConfigDict, SecretStr, model_validator

from shadow.settings.names import Secret
from shadow.settings.section import Section, refused_whole

EMBEDDED: Final = "embedded"

OWN_PROPERTIES: Final = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "group.id",
        "group.instance.id",
        "isolation.level",
        "partition.assignment.strategy",
        "request.required.acks",
        "transactional.id",
        "transaction.timeout.ms",
    }
)
"""Properties on which the counting rests; Shadow sets them itself."""

_PROPERTY: Final = re.compile(r"[a-z][a-z0-9._]{0,79}")


class Kafka(Section):
    """Properties of librdkafka.

    Args:
        bootstrap_servers: Addresses of brokers, comma-separated.

    Every other key is passed on as it is; values may be `env:NAME`. What Shadow's promises rest on cannot be set.
    """

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Secret]

    @model_validator(mode="before")
    @classmethod
    def _check(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise refused_whole("must be a mapping of librdkafka's properties, or the word embedded")
        for name in value:
            if name in OWN_PROPERTIES:
                raise refused_whole(f"{name} is set by Shadow itself, must be left out")
            if not _PROPERTY.fullmatch(name):
                raise refused_whole(f"{name[:60]!r} is no name of a property of librdkafka, must be like sasl.username")
        if "bootstrap.servers" not in value:
            raise refused_whole("bootstrap.servers is missing, must be like kafka:9092")
        return {name: _plain(item) for name, item in value.items()}

    def properties(self) -> dict[str, SecretStr]:
        """The properties; values stay hidden until they are needed."""
        return dict(self.__pydantic_extra__)


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else value
