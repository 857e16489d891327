"""Turn the records of `shadow-decisions` into CloudEvents 1.0.

    record in the topic  ->  Event  ->  headers of the record (Kafka, binary mode; the value stays Avro)
                                    ->  body of a webhook (structured mode, JSON)

Both carry the same id, so that who hears of a decision in two ways can tell that it is one. An event holds names,
numbers and sentences of the gate, nothing of the traffic. A new kind of record gets one more case in `event_of`.

Pure: an event is a function of its record, so that each sending of it has the same bytes.

Source:
    CloudEvents 1.0.2, its JSON format and its Kafka protocol binding.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from shadow.errors import InvalidRecord
from shadow.records.decisions import EXPIRE, PROMOTE, ROLLBACK, Decision, Started

STARTED: Final = "started"
EVENTS: Final = (STARTED, PROMOTE, ROLLBACK, EXPIRE)
"""What an endpoint can choose; `shadow.` and one of these is an event's type."""
BODY_BYTES_MAX: Final = 64 << 10
BODY_TYPE: Final = "application/cloudevents+json"
CULPRITS_MAX: Final = 100
REASON_CHARACTERS_MAX: Final = 4096

_NAMESPACE: Final = uuid.UUID("0c8b7f4e-52a6-5c1d-8e37-9d4a1f6b2c70")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a run.

    Args:
        event_id: The same for every sending, and for nothing else.
        name: What endpoints choose it by.
        data: What happened, JSON-ready.
    """

    event_id: str
    name: str
    run: str
    time_us: int
    data: Mapping[str, Any]


def event_of(record: object) -> Event | None:
    """What a record of the topic tells; None where it is none that is told."""
    match record:
        case Started():
            return Event(
                str(uuid.uuid5(_NAMESPACE, f"{record.run}/{STARTED}")),
                STARTED,
                record.run,
                record.started_us,
                _started(record),
            )
        case Decision():
            return Event(record.decision_id, record.decision, record.run, record.decided_us, _decision(record))
        case _:
            return None


def headers_of(event: Event, topic: str) -> dict[str, bytes]:
    """Headers of the event's record: its attributes, as every CloudEvents reader of Kafka finds them.

    Args:
        topic: Name of the topic, the event's source.

    Raises:
        InvalidRecord: If its time is none.
    """
    attributes = _attributes(event, topic)
    return {f"ce_{name}": value.encode() for name, value in attributes.items()} | {"content-type": b"application/avro"}


def body_of(event: Event, topic: str) -> bytes:
    """The event as JSON, at most 64 KiB.

    Raises:
        InvalidRecord: If it is larger, or its time is none.
    """
    tree = {**_attributes(event, topic), "datacontenttype": "application/json", "data": dict(event.data)}
    body = orjson.dumps(tree)
    if len(body) > BODY_BYTES_MAX:
        raise InvalidRecord(f"the event has {len(body):,} bytes, and a webhook takes {BODY_BYTES_MAX:,}")
    return body


def _attributes(event: Event, topic: str) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": event.event_id,
        "source": f"/{topic}",
        "type": f"shadow.{event.name}",
        "subject": event.run,
        "time": _time(event.time_us),
    }


def _started(record: Started) -> dict[str, Any]:
    return {
        "run": record.run,
        "attempt": record.attempt,
        "candidate": record.candidate,
        "production": record.production,
        "stage": record.stage,
        "configuration_digest": record.digest,
        "started": _time(record.started_us),
        "expires": _time(record.expires_us),
    }


def _decision(record: Decision) -> dict[str, Any]:
    routing = record.routing
    return {
        "run": record.run,
        "step": record.step,
        "decision": record.decision,
        "decision_id": record.decision_id,
        "from_stage": record.from_stage,
        "to_stage": record.to_stage,
        "reason": record.reason[:REASON_CHARACTERS_MAX],
        "culprits": list(record.culprits[:CULPRITS_MAX]),
        "candidate_share": routing.share if routing is not None else 0.0,
        "tile": record.tile,
        "tiles_digest": record.tiles_digest,
        # The evidence itself grows with slices and rules; `shadow explain` and the topic have it.
        "evidence_sha256": hashlib.sha256(record.evidence.encode()).hexdigest(),
        "decided": _time(record.decided_us),
    }


def _time(us: int) -> str:
    try:
        at = _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        raise InvalidRecord(f"{us} microseconds is no time") from None
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
