"""Run a real Redis Cluster: three primaries, each with a replica, on loopback."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Self

import redis
from redis.exceptions import RedisError

from shadow.adapters.embedded import LOOPBACK, free_port
from tests.services import ServiceMissing
from tests.services.redis import RedisServer

_PAIRS = 3
_SETTLED_S = 30.0


class RedisCluster:
    """Six nodes; a context manager. A primary that is gone for a second is replaced by its replica.

    Raises:
        ServiceMissing: If redis-server or redis-cli is not installed (at start).
        RuntimeError: If the nodes do not form a cluster (at start).
    """

    def __init__(self) -> None:
        self.nodes: list[RedisServer] = []

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.nodes[0].port}/0?cluster=true"

    def start(self) -> Self:
        program = shutil.which("redis-cli")
        if program is None:
            raise ServiceMissing("redis-cli is not installed (Debian: apt-get install redis-tools)")
        try:
            for _ in range(2 * _PAIRS):
                cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port")
                self.nodes.append(RedisServer(is_durable=True, arguments=(*cluster, str(free_port()))).start())
            self._join(program)
        except BaseException:
            self.stop()
            raise
        return self

    def _join(self, program: str) -> None:
        addresses = [f"{LOOPBACK}:{node.port}" for node in self.nodes]
        done = subprocess.run(
            [program, "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != 0:
            raise RuntimeError(f"redis-cli ended with code {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
        self.wait(self.has_replicas, "each primary has its replica")

    def primaries(self) -> list[RedisServer]:
        """Nodes that run and say that they are primaries."""
        return [node for node in self.nodes if self._role(node) == "master"]

    def primary_of(self, key: str) -> RedisServer:
        """The primary that holds a key's slot."""
        living = next(node for node in self.nodes if node.pid is not None)
        with redis.Redis(LOOPBACK, living.port) as client:
            slot = int(client.execute_command("CLUSTER KEYSLOT", key))
            ranges = client.execute_command("CLUSTER SLOTS")
        port = next(int(entry[2][1]) for entry in ranges if int(entry[0]) <= slot <= int(entry[1]))
        return next(node for node in self.nodes if node.port == port)

    def has_replicas(self) -> bool:
        """Whether three replicas hold what their primaries do: one that never did is not promoted."""
        links = [_info(node, "replication").get("master_link_status") for node in self.nodes]
        return len(self.primaries()) == _PAIRS and links.count("up") == _PAIRS

    def is_whole(self) -> bool:
        """Whether every slot is served."""
        found = [node for node in self.nodes if node.pid is not None]
        return bool(found) and all(self._state(node) == "ok" for node in found)

    def wait(self, is_true: Callable[[], bool], what: str) -> None:
        """Wait for a condition of the cluster.

        Raises:
            RuntimeError: If it does not come within half a minute.
        """
        deadline_s = time.monotonic() + _SETTLED_S
        while not (self.is_whole() and is_true()):
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"within {_SETTLED_S:g} s it did not happen that {what}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all nodes and remove their data."""
        for node in self.nodes:
            node.stop()
        self.nodes.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _role(self, node: RedisServer) -> str:
        return str(_info(node, "replication").get("role", ""))

    def _state(self, node: RedisServer) -> str:
        try:
            with redis.Redis(LOOPBACK, node.port, socket_timeout=1.0) as client:
                return str(client.execute_command("CLUSTER INFO").get("cluster_state"))
        except RedisError:
            return "away"


def _info(node: RedisServer, section: str) -> dict[str, object]:
    """What a node says of itself; empty where it does not answer."""
    if node.pid is None:
        return {}
    try:
        with redis.Redis(LOOPBACK, node.port, socket_timeout=1.0) as client:
            return dict(client.info(section))
    except RedisError:
        return {}
