"""Events of the decisions topic: what they say, and that others can read and verify them (P18)."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shadow.adapters.avro import decode, encode
from shadow.adapters.cloud_events import headers_of_value
from shadow.adapters.memory_log import MemoryLog
from shadow.errors import InvalidRecord
from shadow.notify.events import BODY_BYTES_MAX, BODY_TYPE, EVENTS, body_of, event_of, headers_of
from shadow.notify.signing import key_of, signed_headers
from tests.notifier.records import decision, started

SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_the_signature_is_that_of_the_specification() -> None:
    """
    P18: the test vector of Standard Webhooks comes out.
    """
    body = b'{"test": 2432232314}'
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, [key_of(SPEC_SECRET)])
    assert {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    } == headers


@given(st.binary(min_size=24, max_size=64), st.binary(min_size=24, max_size=64), st.text(max_size=200))
def test_either_secret_of_a_rotation_verifies(old: bytes, new: bytes, text: str) -> None:
    """
    P18: the reference library takes what was signed with both secrets, whichever it knows, and nothing altered.
    """
    body = orjson.dumps({"text": text.encode("utf-8", "replace").decode()})
    secrets = ["whsec_" + base64.b64encode(key).decode() for key in (old, new)]
    headers = signed_headers("id-1", int(time.time()), body, [key_of(secret) for secret in secrets])
    for secret in secrets:
        assert orjson.loads(body) == Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(body + b" ", headers)


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        base64.b64encode(b"k" * 24).decode(),
        "whsec_not base64!",
        "whsec_",
    ],
    ids=["23 bytes", "65 bytes", "no prefix", "no base64", "empty"],
)
def test_a_weak_or_malformed_secret_is_no_key(secret: str) -> None:
    """
    Input 108: a secret of less than 24 bytes, or in another form, is refused.
    """
    with pytest.raises(ValueError, match="24 to 64 random bytes"):
        key_of(secret)


@pytest.mark.parametrize("record", [started(), *map(decision, EVENTS[1:])], ids=EVENTS)
def test_each_record_is_an_event(record: object) -> None:
    """
    Its body is a CloudEvent that the reference SDK reads, with the same id each time.
    """
    event = event_of(record)
    assert event is not None
    body = body_of(event, "decisions")
    read = from_structured_event(HTTPMessage({"content-type": BODY_TYPE}, body))
    assert ("/decisions", f"shadow.{event.name}", event.run) == (read.get_source(), read.get_type(), read.get_subject())
    assert datetime(2025, 11, 30, 14, 19, 5, 678901, UTC) == read.get_time()
    assert event.event_id == read.get_id()
    assert event.run == read.get_data()["run"]
    again = event_of(decode(encode(record)))
    assert again is not None
    assert body == body_of(again, "decisions")


def test_ids_of_events_differ() -> None:
    """
    No two of two runs' beginnings and two of their steps have one id.
    """
    records = [started(), started("other-00000000-1"), decision(step=1), decision(step=2)]
    assert 4 == len({event_of(record).event_id for record in records})


def test_the_event_of_a_decision_says_what_was_decided_and_why() -> None:
    """
    Run, step, stages, reason and culprits are there; the evidence is named by its digest only.
    """
    event = event_of(decision("rollback", evidence='{"secret words of a user": 1}'))
    tree = orjson.loads(body_of(event, "decisions"))
    data = tree["data"]
    assert ("rollback", "shadow", "rolled_back", 1) == (
        data["decision"],
        data["from_stage"],
        data["to_stage"],
        data["step"],
    )
    assert (["no_regression all correct"], 64) == (data["culprits"], len(data["evidence_sha256"]))
    assert b"secret words" not in body_of(event, "decisions")


def test_an_event_is_never_larger_than_a_webhook_may_be() -> None:
    """
    A reason and culprits without end are cut; what cannot be cut is refused.
    """
    event = event_of(decision(reason="r" * 100_000, culprits=("c" * 100,) * 5000))
    assert len(body_of(event, "decisions")) <= BODY_BYTES_MAX
    with pytest.raises(InvalidRecord, match="65,536"):
        body_of(event_of(decision(culprits=("c" * 5000,) * 100)), "decisions")


def test_what_is_no_event_tells_nothing() -> None:
    """
    Another record, another topic's bytes and an impossible time have neither headers nor an error.
    """
    assert event_of(object()) is None
    assert {} == headers_of_value("decisions", b"one")
    with pytest.raises(InvalidRecord, match="is no time"):
        headers_of(event_of(started(started_us=2**62)), "decisions")
    assert {} == headers_of_value("decisions", encode(started(started_us=2**62)))


def test_records_in_the_log_carry_the_attributes() -> None:
    """
    The writer of the topic puts them into the headers, and the reference SDK reads the record as an event.
    """
    log = MemoryLog(lambda: 0)
    log.admin().create_topics({"decisions": 1}, {})
    value = encode(decision())
    record = log.decisions("decisions", "id").append(b"key", lambda records: value)
    event = from_binary_event(KafkaMessage(dict(record.headers), record.key, record.value))
    assert ("1.0", decision().decision_id, "/decisions", "shadow.rollback") == (
        event.get_specversion(),
        event.get_id(),
        event.get_source(),
        event.get_type(),
    )
    assert value == event.get_data()
