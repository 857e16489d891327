"""Run three real Apache Kafka nodes that replicate everything to each other."""

from __future__ import annotations

from typing import Self

from shadow.adapters.embedded import LOOPBACK, free_port
from tests.services.kafka import ApacheKafka, metadata_of, new_cluster_id

NODES = 3

# What a production cluster has: three copies, two of which must acknowledge.
_REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


class KafkaCluster:
    """Three nodes, each broker and controller; a context manager. Topics get three replicas of each partition.

    Raises:
        ServiceMissing: If Java or the jars cannot be had (at start).
        Unavailable: If it does not serve (at start).
    """

    def __init__(self) -> None:
        self.nodes: list[ApacheKafka] = []

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    def start(self) -> Self:
        ports = [free_port() for _ in range(2 * NODES)]
        brokers, controllers = ports[:NODES], ports[NODES:]
        voters = ",".join(f"{number + 1}@{LOOPBACK}:{port}" for number, port in enumerate(controllers))
        cluster_id = new_cluster_id()
        for number, (broker, controller) in enumerate(zip(brokers, controllers, strict=True), start=1):
            settings = {
                **_REPLICATED,
                "node.id": str(number),
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://{LOOPBACK}:{broker},CONTROLLER://{LOOPBACK}:{controller}",
            }
            self.nodes.append(ApacheKafka(settings, cluster_id=cluster_id, port=broker))
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def leader(self, topic: str, partition: int) -> ApacheKafka:
        """The node that leads a partition now."""
        return self.nodes[metadata_of(self.bootstrap, 10.0).topics[topic].partitions[partition].leader - 1]

    def stop(self) -> None:
        """End all nodes and remove their data."""
        for node in self.nodes:
            node.kill()  # one after the other would each wait for a quorum that is gone
        for node in self.nodes:
            node.stop()
        self.nodes.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
