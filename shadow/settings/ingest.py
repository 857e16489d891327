"""`ingest`: where copies are taken that another tool makes of live requests."""

from __future__ import annotations

from shadow.settings.names import Address, address_of
from shadow.settings.section import Section


class Ingest(Section):
    """The ingest. What it copies, masks and waits for stands under `proxy`.

    Args:
        listen: `host:port` of the copies' target; port 0 takes a free one.
    """

    listen: Address = "127.0.0.1:8081"

    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        found = address_of(self.listen)
        assert found is not None, "checked when it was read"
        return found
