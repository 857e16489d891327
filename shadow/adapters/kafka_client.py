"""What every Kafka client of ours shares: its properties, its log, its health, and errors as sentences."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from shadow.errors import Unavailable, Usage
from shadow.records.log import LogRecord, make_record

log = logging.getLogger("shadow.kafka")

RECORD_ROOM_BYTES: Final = 256 << 10
"""Room for headers and framing beside the bodies of a record."""
RECORD_BYTES_MAX: Final = (4 << 20) + RECORD_ROOM_BYTES
"""Four times the default body_max, and room for headers and framing: what a producer sends at most."""
BATCH_ROOM_BYTES: Final = 16 << 10
"""How much more a topic must take: a broker counts the batch around a record, a producer does not quite."""
BATCH_BYTES_MAX: Final = 1_000_000
"""librdkafka's batch.size: a larger record travels, and is refused, alone; a batch of smaller ones is no longer."""
TOO_LARGE: Final = "MSG_SIZE_TOO_LARGE"
"""Name, in every sentence about it, of a broker's refusal that no repetition changes."""
RECONNECT: Final = {"reconnect.backoff.ms": "100", "reconnect.backoff.max.ms": "2000"}
"""A broker that returns is noticed within two seconds instead of ten."""
METADATA_S: Final = 10.0
"""How long a question to the broker may take."""
SAME_TROUBLE_S: Final = 10.0

OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
_AWAY: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError._RESOLVE,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)

_LEADERLESS: Final = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
LEADERLESS_S: Final = 0.1

C = TypeVar("C", Consumer, Producer)


def sentence(error: KafkaError) -> str:
    """What librdkafka says of an error, with its name."""
    return f"{error.str()} ({error.name()})"


def error_of(raised: KafkaException) -> KafkaError:
    """The error inside an exception."""
    error = raised.args[0]
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


def unavailable(what: str, raised: KafkaException) -> Unavailable:
    """Translate an exception at the border."""
    return Unavailable(f"kafka could not {what}: {sentence(error_of(raised))}")


class ClientLog:
    """Receives librdkafka's own lines, which would go to stderr otherwise.

    A broker that is away makes several lines a second: errors become warnings, each text at most once in
    ten seconds, and everything else is for debugging.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said_s: dict[str, float] = {}

    def log(self, level: int, message: str, *args: object) -> None:
        """Called by the client with the levels of Python's logging."""
        if level >= logging.ERROR:
            facility = str(args[0]) if args else message
            now_s = time.monotonic()
            with self._lock:
                is_new = now_s - self._said_s.get(facility, -SAME_TROUBLE_S) >= SAME_TROUBLE_S
                if is_new:
                    self._said_s[facility] = now_s
            if is_new:
                log.warning(message, *args)
                return
        log.debug(message, *args)


class Health:
    """What the client's background threads reported last."""

    def __init__(self) -> None:
        self.trouble: str | None = None

    def on_error(self, error: KafkaError) -> None:
        """Serve `error_cb`; most errors are transient and librdkafka goes on by itself."""
        if error.code() in _AWAY or error.fatal():
            self.trouble = sentence(error)
        log.debug("kafka: %s", sentence(error))


def _throttled(event: Any) -> None:
    log.info("kafka holds %s up for %.1f s: a quota is used up", event.broker_name, event.throttle_time)


def client(kind: type[C], properties: Mapping[str, Any], health: Health) -> C:
    """Make a client whose log and errors come to us.

    Raises:
        Usage: If librdkafka refuses a property.
    """
    try:
        # The stubs lack `logger`, which the client documents.
        return kind(
            {**RECONNECT, **properties, "error_cb": health.on_error, "throttle_cb": _throttled, "logger": ClientLog()}
        )
    except KafkaException as raised:
        raise Usage(f"kafka: {error_of(raised).str()}") from raised
    except (TypeError, ValueError) as error:
        raise Usage(f"kafka: the properties cannot be used: {error}") from error


def consumer_properties(properties: Mapping[str, str], group: str) -> dict[str, Any]:
    """Properties of every consumer: the user's, and what our promises need.

    Nothing is skipped silently (`auto.offset.reset=error`), and nothing is committed behind our back.
    """
    return {
        "queued.min.messages": "20000",
        "queued.max.messages.kbytes": "32768",
        "session.timeout.ms": "6000",
        "fetch.wait.max.ms": "250",
        "fetch.error.backoff.ms": "100",
        "message.max.bytes": str(RECORD_BYTES_MAX),
        **properties,
        "group.id": group,
        "auto.offset.reset": "error",
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "enable.partition.eof": "false",
        "isolation.level": "read_committed",
        "allow.auto.create.topics": "false",
    }


def record_of(message: Any) -> LogRecord:
    """A message without an error as a record. Kafka's times are milliseconds."""
    headers = message.headers()
    return make_record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1] * 1000,
        message.key(),
        message.value(),
        {name: value or b"" for name, value in headers} if headers else {},
    )


def consume(consumer: Consumer, max_records: int, timeout_s: float) -> list[Any]:
    """Messages, as soon as there are any: `Consumer.consume` alone would wait for the last of `max_records`."""
    messages = consumer.consume(max_records, 0)
    if messages or timeout_s <= 0:
        return list(messages)
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    return [first, *consumer.consume(max_records - 1, 0)] if max_records > 1 else [first]


def check_reachable(consumer: Consumer, health: Health, *, has_records: bool) -> None:
    """Ask for metadata after trouble was reported: a client does not tell when it is over, nor twice that it goes on.

    Args:
        has_records: Whether records were just read. They may have been fetched before the trouble, so they do not
            end it; but they are given out first.

    Raises:
        Unavailable: If the trouble goes on, and there are no records.
    """
    if health.trouble is None:
        return
    trouble = health.trouble
    try:
        consumer.list_topics(timeout=0.1 if has_records else 1.0)
    except KafkaException as raised:
        if not has_records:
            raise Unavailable(f"kafka does not answer: {trouble}") from raised
        return
    health.trouble = None


T = TypeVar("T")


def asking(what: str, question: Callable[[], T], again: Collection[int] = _LEADERLESS) -> T:
    """Ask the broker; its refusals become Unavailable.

    While a partition has no leader that its clients know (right after it was made, or as a leader moves) the
    same question is put again for a while.

    Args:
        again: Codes of the refusals after which it is.
    """
    deadline_s = time.monotonic() + METADATA_S
    while True:
        try:
            return question()
        except KafkaException as raised:
            if error_of(raised).code() not in again or time.monotonic() > deadline_s:
                raise unavailable(what, raised) from raised
            time.sleep(LEADERLESS_S)


def bounds_of(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """(first offset, offset behind the last record) of a partition, as its broker says now.

    A partition is unknown for a moment where it was just made, or where the only broker was away for so long that its
    controller gave it up; and librdkafka believes for minutes what it heard in that moment. So fresh metadata are asked
    for, and the question is put again for a while.

    Raises:
        Unavailable: If the broker does not say it.
    """
    place = TopicPartition(topic, partition)

    def question() -> tuple[int, int]:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=METADATA_S, cached=False)
        except KafkaException as raised:
            if error_of(raised).code() == KafkaError._UNKNOWN_PARTITION:
                consumer.list_topics(topic, timeout=METADATA_S)
            raise
        return int(low), int(high)

    return asking(f"say where {topic}/{partition} ends", question, {*_LEADERLESS, KafkaError._UNKNOWN_PARTITION})
