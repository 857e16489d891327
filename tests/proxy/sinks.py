"""All bytes that a stack has left in Kafka and in Redis, by the name of where they were found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import Consumer, KafkaError, TopicPartition

KINDS = ("requests", "answers", "pairs", "decisions", "dead_letters")


def topics(bootstrap: str, names: Mapping[str, Any]) -> dict[str, bytes]:
    """Keys, values and headers of every record, as a reader gets them."""
    return {f"topic of {kind}": b"\n".join(_records(bootstrap, str(names[kind]))) for kind in KINDS}


def _records(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Parts of all records, of aborted transactions too."""
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "sinks",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",
        }
    )
    try:
        partitions = reader.list_topics(topic, timeout=30).topics[topic].partitions
        reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        open_partitions = set(partitions)
        while open_partitions:
            message = reader.poll(30.0)
            assert message is not None, f"{topic} could not be read to its end"
            error = message.error()
            if error is not None:
                assert KafkaError._PARTITION_EOF == error.code(), error
                open_partitions.discard(message.partition())
                continue
            yield message.key() or b""
            yield message.value() or b""
            yield from (name.encode() + b"=" + (value or b"") for name, value in message.headers() or ())
    finally:
        reader.close()


def files_of(directory: Path, names: Mapping[str, Any]) -> bytes:
    """Files of these topics, and of what Kafka itself keeps about groups and transactions."""
    own = tuple(str(names[kind]) for kind in KINDS)
    parts = []
    for path in (directory / "data").rglob("*"):
        if path.is_file() and path.parent.name.startswith((*own, "__")):
            with suppress(FileNotFoundError):  # Kafka renames its checkpoints at any time
                parts.append(path.read_bytes().rstrip(b"\0"))  # the files of an index are as long as they may become
    return b"\n".join(parts)


def redis_content(url: str, directory: Path) -> dict[str, bytes]:
    """Every key and value as a client gets them, as DUMP gives them, and the file that SAVE writes."""
    values, dumps = [], []
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            kind = client.type(key)
            assert b"hash" == kind, f"{key!r} is a {kind!r}, and only hashes are read here"
            values += [key, *(part for pair in client.hgetall(key).items() for part in pair)]
            dumps.append(client.dump(key))
        client.save()
    return {
        "values in Redis": b"\n".join(values),
        "dump of Redis": b"\n".join(dumps),
        "file of Redis": (directory / "dump.rdb").read_bytes(),
    }
