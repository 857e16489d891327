"""CloudEvents attributes of a record of `shadow-decisions`, as headers (binary mode: the value stays as it is)."""

from __future__ import annotations

from shadow.adapters.avro import decode
from shadow.errors import InvalidRecord
from shadow.notify.events import event_of, headers_of


def headers_of_value(topic: str, value: bytes) -> dict[str, bytes]:
    """Headers of a record's value; none where it is no event."""
    try:
        event = event_of(decode(value))
        return {} if event is None else headers_of(event, topic)
    except InvalidRecord:
        return {}
