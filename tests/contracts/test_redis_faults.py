"""What Redis alone can do wrong: lost answers, lost scripts, full memory, foreign keys, eviction."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import redis

from shadow.adapters.redis import RedisStore
from shadow.errors import Refused, Unavailable, Usage
from shadow.ports import Change
from tests.services.redis import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A redis-server of these tests alone, since they change its settings."""
    with RedisServer() as started:
        yield started


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    """A plain client, to break things with."""
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    """A store on that server."""
    made = RedisStore(server.url)
    yield made
    made.close()


class LosesAnswers:
    """Stands between a client and Redis, and cuts the connection instead of passing on an answer.

    Args:
        port: Port of the server.
        lost: How many writes get no answer.
        is_delivered: Whether these writes reach the server.
    """

    def __init__(self, port: int, lost: int, *, is_delivered: bool) -> None:
        self._server_port = port
        self._is_delivered = is_delivered
        self.lost = lost
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as upstream:
            while request := client.recv(1 << 20):
                is_lost = self.lost > 0 and b"EVAL" in request.upper()[:40]
                if is_lost and not self._is_delivered:
                    self.lost -= 1
                    return
                upstream.sendall(request)
                answer = upstream.recv(1 << 20)
                # A script that the server does not know yet has changed nothing.
                if is_lost and not answer.startswith(b"-NOSCRIPT"):
                    self.lost -= 1
                    return
                client.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.mark.parametrize("is_delivered", [True, False], ids=["after-the-write", "before-the-write"])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_lost_answer_is_resolved(server: RedisServer, slot: str, lost: int, is_delivered: bool) -> None:
    """
    Applied or not, after the call the change stands there once.
    """
    between = LosesAnswers(server.port, lost, is_delivered=is_delivered)
    store = RedisStore(between.url)
    try:
        store.swap(slot, None, Change("v1", {"a": b"1"}, tiles={"1": b"t"}))
        assert store.load(slot) == ("v1", {"a": b"1"})
    finally:
        store.close()
        between.close()


def test_another_owner_after_a_lost_answer_is_refused(server: RedisServer, store: RedisStore, slot: str) -> None:
    """
    Reading back another version than the new or the expected one means that somebody else wrote.
    """
    store.swap(slot, None, Change("other", {}))
    between = LosesAnswers(server.port, 2, is_delivered=False)
    mine = RedisStore(between.url)
    try:
        with pytest.raises(Refused, match="version other"):
            mine.swap(slot, "mine", Change("v2", {}))
    finally:
        mine.close()
        between.close()


def test_writes_that_never_arrive_are_unavailable(server: RedisServer, store: RedisStore, slot: str) -> None:
    """
    Sending is bounded, and nothing was changed.
    """
    between = LosesAnswers(server.port, 100, is_delivered=False)
    mine = RedisStore(between.url)
    try:
        with pytest.raises(Unavailable, match="did not answer 3 writes"):
            mine.swap(slot, None, Change("v1", {}))
    finally:
        mine.close()
        between.close()
    assert store.load(slot) is None


def test_a_server_that_forgot_the_script_gets_it_again(store: RedisStore, admin: redis.Redis, slot: str) -> None:
    """
    A failover or restart empties the script cache.
    """
    store.swap(slot, None, Change("v1", {}))
    admin.script_flush()
    store.swap(slot, "v1", Change("v2", {}))
    assert store.load(slot) == ("v2", {})


def test_full_memory_refuses_a_change_as_a_whole(store: RedisStore, admin: redis.Redis, slot: str) -> None:
    """
    Redis takes back nothing, so it must refuse before the first write.
    """
    store.swap(slot, None, Change("v1", {"a": b"1", "b": b"1"}, tiles={"1": b"t"}))
    admin.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(Unavailable, match="maxmemory"):
            store.swap(slot, "v1", Change("v2", {"a": bytes(1000)}, dropped=["b"], dropped_tiles=["1"]))
    finally:
        admin.config_set("maxmemory", "0")
    assert store.load(slot) == ("v1", {"a": b"1", "b": b"1"})
    assert sorted(store.tile_names(slot)) == ["1"]


@pytest.mark.parametrize("what", ["state", "tiles"])
def test_a_key_of_another_kind_refuses_a_change_as_a_whole(
    store: RedisStore, admin: redis.Redis, slot: str, what: str
) -> None:
    """
    A foreign key under our name is found before the first write.
    """
    other = {"state": "tiles", "tiles": "state"}[what]
    admin.set(f"shadow:{{{slot}}}:{what}", "foreign")
    with pytest.raises(Unavailable, match="is a string, not a hash"):
        store.swap(slot, None, Change("v1", {"a": b"1"}, tiles={"1": b"t"}))
    assert admin.exists(f"shadow:{{{slot}}}:{other}") == 0
    assert admin.get(f"shadow:{{{slot}}}:{what}") == b"foreign"


def test_our_keys_never_expire(store: RedisStore, admin: redis.Redis, slot: str) -> None:
    """
    Neither key has a time to live.
    """
    store.swap(slot, None, Change("v1", {"a": b"1"}, tiles={"1": b"t"}))
    assert [admin.ttl(f"shadow:{{{slot}}}:{what}") for what in ("state", "tiles")] == [-1, -1]


def test_eviction_is_a_problem(store: RedisStore, admin: redis.Redis) -> None:
    """
    Input 109: a server that may delete the counters says so in one sentence.
    """
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        (problem,) = store.problems()
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
    assert "maxmemory-policy allkeys-lru" in problem
    assert "noeviction" in problem


@pytest.mark.parametrize("query", ["", "?cluster=true"])
def test_a_server_that_is_away_is_unavailable_without_its_password(slot: str, query: str) -> None:
    """
    The sentence names the place and never the secret.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = RedisStore(f"redis://user:s3cret@127.0.0.1:{port}/0{query}")
    for call in (lambda: store.load(slot), lambda: store.swap(slot, None, Change("v1", {})), store.problems):
        with pytest.raises(Unavailable, match=f"redis at 127.0.0.1:{port}") as caught:
            call()
        assert "s3cret" not in str(caught.value)
    store.close()


@pytest.mark.parametrize("slot", ["", "a b", "run{1}/0", "run/", "run/0/1", "../x", "run\x00/0"])
def test_names_that_would_move_the_keys_are_refused(store: RedisStore, slot: str) -> None:
    """
    Inputs 102 and 103: braces, blanks and paths have no place in a slot.
    """
    with pytest.raises(Usage, match="a slot is"):
        store.swap(slot, None, Change("v1", {}))


@pytest.mark.parametrize("url", ["", "http://localhost", "redis://localhost:port", "redis://localhost:6379/0?db=x"])
def test_urls_that_cannot_be_used_are_refused(url: str) -> None:
    """
    One sentence at the start instead of a traceback at the first call.
    """
    with pytest.raises(Usage, match="redis"):
        RedisStore(url)
