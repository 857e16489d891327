"""`admin`: where each process serves metrics and probes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from shadow.settings.names import Text
from shadow.settings.section import Section, refused_whole
from shadow.settings.units import count

Port = Annotated[int, count(0, 65535)]


class Admin(Section):
    """The admin ports; 0 takes a free one.

    Args:
        host: Address to listen on. Metrics and probes ask for no password, so it is the loopback by default.
    """

    host: Text = "127.0.0.1"
    proxy: Port = 9101
    worker: Port = 9102
    comparator: Port = 9103
    gate: Port = 9104

    @model_validator(mode="after")
    def _check(self) -> Self:
        ports = [port for port in (self.proxy, self.worker, self.comparator, self.gate) if port]
        twice = next((port for port in ports if ports.count(port) > 1), None)
        if twice is not None:
            raise refused_whole(f"two processes have the port {twice}, must have one each")
        return self
