"""Input 109: a run is not begun on services that may lose what its verdict rests on, unless told to."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import redis
import yaml
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from shadow.adapters.kafka import KafkaLog
from shadow.adapters.redis import RedisStore
from shadow.cli.safety import topic_risks
from shadow.errors import Usage
from shadow.ports import Change, TopicState
from tests.cli.conftest import CommandLine, configuration
from tests.services.kafka import ApacheKafka
from tests.services.kafka_cluster import KafkaCluster
from tests.services.redis import RedisServer


@pytest.fixture
def shadow(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def begun(shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka | KafkaCluster, store: RedisServer, *options: str):
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


def test_109_three_brokers_need_no_option(
    shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    On three brokers of which two must acknowledge, and a Redis that never evicts, a run begins without a warning.
    """
    with KafkaCluster() as cluster:
        done = begun(shadow, tmp_path, cluster, redis_server)
    assert (0, "") == (done.returncode, done.stderr)


def test_109_what_no_option_allows(
    shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    Topics that make counts wrong are refused with every fault and risk at once, exit 2, whatever is asked for.
    """
    tree = configuration(kafka.bootstrap, redis_server.url)
    (tmp_path / "shadow.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    bad = {
        "message.timestamp.type": "CreateTime",
        "retention.ms": "60000",
        "retention.bytes": "1000000",
        "cleanup.policy": "compact,delete",
        "max.message.bytes": "100000",
    }
    with closing(KafkaLog({"bootstrap.servers": kafka.bootstrap}).admin()) as admin:
        topics = tree["topics"]
        admin.create_topics({topics["requests"]: 2, topics["answers"]: 3}, {topics["requests"]: bad})
    for options in ((), ("--unsafe",)):
        refused = shadow("start", *options)
        lines = refused.stderr.strip().splitlines()
        assert (2, "") == (refused.returncode, refused.stdout)
        for name, value in bad.items():
            assert any(f"{topics['requests']} " in line and f"{name} {value}" in line for line in lines), (name, lines)
        assert any("2 partitions" in line and "equally many" in line for line in lines)
        assert any("replication factor 1" in line for line in lines)
        assert "nothing was begun" in lines[-1]


def test_109_topics_are_created_for_the_bodies(
    shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    A larger body_max makes topics that take four of them, and the run begins.
    """
    tree = configuration(kafka.bootstrap, redis_server.url)
    tree["proxy"]["mirror"]["body_max"] = "2MiB"
    (tmp_path / "shadow.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert 0 == shadow("start", "--unsafe").returncode
    with closing(KafkaLog({"bootstrap.servers": kafka.bootstrap}).admin()) as admin:
        state = admin.topic(tree["topics"]["answers"])
    assert state is not None
    assert 8 << 20 <= int(state.config["max.message.bytes"])


def risks(replicas: int, **config: str) -> list[str]:
    return list(topic_risks(TopicState(8, {name.replace("_", "."): value for name, value in config.items()}, replicas)))


def test_109_risks_of_a_topic() -> None:
    """
    One replica, acknowledgements of one disk and unclean elections are risks; three replicas of which two must
    acknowledge are none; of what the broker does not tell nothing is said.
    """
    assert [] == risks(3, min_insync_replicas="2", unclean_leader_election_enable="false")
    assert [] == risks(0)
    assert ["replication factor 1"] == [risk[4:24] for risk in risks(1, min_insync_replicas="1")]
    (acknowledged,) = risks(3, min_insync_replicas="1")
    assert "min.insync.replicas=1" in acknowledged
    (unclean,) = risks(3, unclean_leader_election_enable="true")
    assert "unclean.leader.election.enable=true" in unclean


def test_109_keys_of_a_slot_lie_in_one_hash_slot(redis_server: RedisServer) -> None:
    """
    Both keys of a partition carry its hash tag, so that a cluster keeps them together; braces in a run's name are
    refused.
    """
    store = RedisStore(redis_server.url)
    store.swap("run-109/3", None, Change("v1", {"a": b"1"}, tiles={"1": b"t"}))
    with redis.Redis.from_url(redis_server.url) as connection:
        keys = sorted(connection.keys("shadow:{run-109/3}:*"))
    assert [b"shadow:{run-109/3}:state", b"shadow:{run-109/3}:tiles"] == keys
    with pytest.raises(Usage, match="slot"):
        store.load("run-{1}/3")
    store.purge("run-109/3")
    store.close()
