"""`admin`: where each process serves metrics and probes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from shadow.errors import Usage
from shadow.settings.names import ENV, LabelName, Secret, Text
from shadow.settings.section import Section, refused_whole
from shadow.settings.units import count

Port = Annotated[int, count(0, 65535)]


class Admin(Section):
    """The admin ports; 0 takes a free one.

    Args:
        host: Address to listen on. Metrics and probes ask for no password, so it is the loopback by default.
        token: What clients of the gate's `POST /v1/answers`, `/v1/alerts` and `/v1/feedback` must send as
            `Authorization: Bearer …`, best as `env:NAME`. Without it these are taken on the loopback only.
        four_eyes: Whether a promotion that a person orders against the gate's proof needs another person who
            confirms it.
        alert_label: Label of a firing alert of Alertmanager that says `hold` or `rollback`.
    """

    host: Text = "127.0.0.1"
    token: Secret | None = None
    four_eyes: Annotated[bool, Field(strict=True)] = False
    alert_label: LabelName = "shadow_action"
    proxy: Port = 9101
    worker: Port = 9102
    comparator: Port = 9103
    gate: Port = 9104
    notifier: Port = 9105

    def bearer(self) -> str | None:
        """The token as clients send it.

        Raises:
            Usage: If it is to come from a variable that is not set.
        """
        if self.token is None:
            return None
        text = self.token.get_secret_value()
        if text.startswith(ENV):
            raise Usage(f"admin.token: the environment variable {text.removeprefix(ENV)} is not set")
        return text

    @model_validator(mode="after")
    def _check(self) -> Self:
        ports = [port for port in (self.proxy, self.worker, self.comparator, self.gate, self.notifier) if port]
        twice = next((port for port in ports if ports.count(port) > 1), None)
        if twice is not None:
            raise refused_whole(f"two processes have the port {twice}, must have one each")
        return self
