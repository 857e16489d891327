"""Input 109: a run is not begun on services that may lose what its verdict rests on, unless told to."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
import yaml
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.cli.conftest import CommandLine, configuration
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer


@pytest.fixture
def shadow(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def begun(shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, store: RedisServer, *options: str):
    (tmp_path / "shadow.yaml").write_text(yaml.safe_dump(configuration(kafka.bootstrap, store.url), sort_keys=False))
    return shadow("start", *options)


def test_109_everything_at_once(shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    Replication factor 1, unclean leader election and an evicting Redis are named all at once, and nothing is begun;
    with --unsafe the same lines are warnings.
    """
    with RedisServer(arguments=("--maxmemory-policy", "allkeys-lru")) as store:
        refused = begun(shadow, tmp_path, kafka, store)
        assert 2 == refused.returncode
        topics = yaml.safe_load((tmp_path / "shadow.yaml").read_text())["topics"]
        resource = ConfigResource(
            ResourceType.TOPIC,
            topics["answers"],
            incremental_configs=[
                ConfigEntry("unclean.leader.election.enable", "true", incremental_operation=AlterConfigOpType.SET)
            ],
        )
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.incremental_alter_configs([resource])[resource].result(10)
        refused = shadow("start")
        assert 2 == refused.returncode
        for word in ("replication factor 1", "unclean.leader.election.enable=true", "allkeys-lru", "--unsafe"):
            assert word in refused.stderr
        assert "no runs yet" in shadow("runs", "-c", "shadow.yaml").stdout
        allowed = shadow("start", "--unsafe")
        assert 0 == allowed.returncode
        assert 5 == allowed.stderr.count("warning: ")


def test_109_keys_of_a_slot_lie_in_one_hash_slot(redis_server: RedisServer) -> None:
    """
    Both keys of a partition carry its hash tag, so that a cluster keeps them together; braces in a run's name are
    refused.
    """
    from shadow.adapters.redis import RedisStore
    from shadow.errors import Usage
    from shadow.ports import Change

    store = RedisStore(redis_server.url)
    store.swap("run-109/3", None, Change("v1", {"a": b"1"}, tiles={"1": b"t"}))
    keys = sorted(redis.Redis.from_url(redis_server.url).keys("shadow:{run-109/3}:*"))
    assert [b"shadow:{run-109/3}:state", b"shadow:{run-109/3}:tiles"] == keys
    with pytest.raises(Usage, match="slot"):
        store.load("run-{1}/3")
    store.purge("run-109/3")
    store.close()
