"""Redis as a `shadow.ports.Store`: snapshots by slot, changed by one script only.

    shadow:{run/partition}:state    hash: the state's fields, and its version under @version
    shadow:{run/partition}:tiles    hash: closed tiles by name

Long values are compressed (packed.py), short ones are as they are.

Both keys of a slot lie in one hash slot of a cluster. Neither ever gets a time to live. A change, by number here
and in the body:

 1. The script compares the version and writes, all at once. A version is never reused, so equal version means
    equal content, on any node at any time.
 2. A server that does not know the script (restarted, failed over) gets all of it.
 3. No answer means that nothing is known: the version is read back. The new one: applied. The expected one: not
    applied, so it is sent again; should the first sending arrive after all, the second finds the new version in
    place and changes nothing. Any other: another owner wrote, or the server fell back: refused.
 4. No answer to that either: the caller is told that nothing is known.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, RedisClusterException, RedisError
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry

from shadow.adapters.packed import packed, unpacked
from shadow.errors import Refused, Unavailable, Usage
from shadow.ports import Change

log = logging.getLogger("shadow.redis")

VERSION_FIELD: Final = "@version"
SENDINGS_MAX: Final = 3
_SLOT: Final = re.compile(r"[a-zA-Z0-9._-]{1,128}(/[0-9]{1,6})?")
_NO_ANSWER: Final = (Disconnected, TimedOut)
_FOREIGN: Final = (RedisError, RedisClusterException)

T = TypeVar("T")


class RedisStore:
    """Implements `shadow.ports.Store`; threads may share one.

    It does not promise that an acknowledged write outlives a failover: Redis does not. It promises that a
    lost write is noticed at the next `swap`.

    Args:
        url: `redis://`, `rediss://` or `unix://`; with `?cluster=true` the nodes of a Redis Cluster are found
            through it.
        options: Further options of the client, for example `ssl_ca_certs` or `socket_timeout` in seconds.

    Raises:
        Usage: If the URL cannot be used.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._place, is_cluster, url = _read_url(url)
        self._is_cluster = is_cluster
        merged: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0, **options}
        self._script = resources.files("shadow.adapters").joinpath("checkpoint.lua").read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        try:
            self._make: Callable[[], Any] = lambda: RedisCluster.from_url(url, **merged)
            if not is_cluster:
                # One repetition covers a connection that the server closed while it was idle.
                self._client: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1), **merged)
            else:
                self._client = None  # a cluster's client connects when it is made, so it is made when first asked
        except (ValueError, TypeError) as error:
            raise Usage(f"redis: the URL of {self._place} cannot be used: {error}") from error

    def load(self, slot: str) -> tuple[str, dict[str, bytes]] | None:
        """Version and state of a slot; None where there is none."""
        found = self._ask("read a state", lambda client: client.hgetall(_key(slot, "state")))
        if not found:
            return None
        state = {name.decode(): value for name, value in found.items()}
        version = state.pop(VERSION_FIELD, None)
        if version is None:
            raise Unavailable(f"redis at {self._place}: {_key(slot, 'state')} has no version, so it is not ours")
        return version.decode(), {name: self._unpacked(slot, value) for name, value in state.items()}

    def swap(self, slot: str, expected: str | None, change: Change) -> None:
        """Apply a change if the slot still has the expected version."""
        keys = [_key(slot, "state"), _key(slot, "tiles")]
        arguments = _arguments(expected, change)
        for sending in range(1, SENDINGS_MAX + 1):
            try:
                # 1. and 2. Compare and write.
                outcome, stored = self._run(keys, arguments)
            except _NO_ANSWER as lost:
                # 3. Nothing is known: read back.
                log.debug("redis at %s: no answer to a write (%s), reading the version back", self._place, lost)
                version = self._ask("read a version", lambda client: client.hget(keys[0], VERSION_FIELD))
                stored = (version or b"").decode()
                if stored == change.version:
                    return
                if stored == (expected or ""):
                    if sending < SENDINGS_MAX:
                        continue
                    raise Unavailable(
                        f"redis at {self._place} did not answer {sending} writes: {_sentence(lost)}"
                    ) from lost
                outcome = "refused"
            except _FOREIGN as error:
                raise Unavailable(f"redis at {self._place} refused a write: {_sentence(error)}") from error
            if outcome == "refused":
                raise Refused(f"the slot {slot} has version {stored or 'none'}, not {expected or 'none'}")
            return

    def _run(self, keys: list[str], arguments: list[bytes]) -> tuple[str, str]:
        client = self._connected()
        try:
            answer = client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            answer = client.eval(self._script, len(keys), *keys, *arguments)
        return answer[0].decode(), answer[1].decode()

    def field(self, slot: str, name: str) -> bytes | None:
        """One field of a slot's state; None where it is absent."""
        found = self._ask("read a field", lambda client: client.hget(_key(slot, "state"), name))
        return None if found is None else self._unpacked(slot, found)

    def tiles(self, slot: str, names: Sequence[str]) -> list[bytes | None]:
        """Closed tiles by name, None where absent."""
        if not names:
            return []
        found = self._ask("read tiles", lambda client: client.hmget(_key(slot, "tiles"), list(names)))
        return [None if value is None else self._unpacked(slot, value) for value in found]

    def tile_names(self, slot: str) -> list[str]:
        """Names of the closed tiles in the slot, in no order."""
        found = self._ask("list tiles", lambda client: client.hkeys(_key(slot, "tiles")))
        return [name.decode() for name in found]

    def purge(self, slot: str) -> bool:
        """Delete everything of a slot, readable or not; False where there was nothing."""
        keys = (_key(slot, "state"), _key(slot, "tiles"))
        return bool(self._ask("delete a slot", lambda client: client.delete(*keys)))

    def problems(self) -> list[str]:
        """What is wrong with the settings of the server, or of each primary node of a cluster."""
        found = self._ask("tell its settings", self._memory_settings)
        return [
            f"redis at {place} runs with maxmemory-policy {policy}, which may delete the counters; set it to noeviction"
            for place, policy in sorted(found.items())
            if policy != "noeviction"
        ]

    def _memory_settings(self, client: Any) -> dict[str, str]:
        if self._is_cluster:
            answers = client.info("memory", target_nodes=RedisCluster.PRIMARIES)
            # One node answers for itself, several by name.
            if "maxmemory_policy" in answers:
                answers = {self._place: answers}
        else:
            answers = {self._place: client.info("memory")}
        return {place: str(info.get("maxmemory_policy", "unknown")) for place, info in answers.items()}

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _unpacked(self, slot: str, value: bytes) -> bytes:
        try:
            return unpacked(value)
        except ValueError as error:
            raise Unavailable(f"redis at {self._place}: {slot}: {error}; `shadow purge` drops it") from error

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._make()
        return self._client

    def _ask(self, what: str, question: Callable[[Any], T]) -> T:
        try:
            return question(self._connected())
        except _FOREIGN as error:
            raise Unavailable(f"redis at {self._place} could not {what}: {_sentence(error)}") from error


def _key(slot: str, what: str) -> str:
    """The slot is the hash tag, so braces in it would move the keys."""
    if _SLOT.fullmatch(slot) is None:
        raise Usage(f"a slot is a run, or a run and a partition like run-1/0, not {slot[:80]!r}")
    return f"shadow:{{{slot}}}:{what}"


def _arguments(expected: str | None, change: Change) -> list[bytes]:
    """The script's arguments, checked: Redis would not take back half of a change."""
    if not change.version or expected == "":
        raise Usage("a version is a text that is not empty")
    reserved = [name for name in (*change.state, *change.dropped) if name == VERSION_FIELD or not name]
    if reserved:
        raise Usage(f"{reserved[0]!r} cannot be the name of a state's field")
    tiles = change.tiles or {}
    parts: list[str | bytes] = [expected or "", change.version]
    parts += map(str, (len(change.state), len(change.dropped), len(tiles), len(change.dropped_tiles)))
    for name, value in change.state.items():
        parts += (name, packed(value))
    parts += change.dropped
    for name, tile in tiles.items():
        parts += (name, packed(tile))
    parts += change.dropped_tiles
    return [part.encode() if isinstance(part, str) else part for part in parts]


def _read_url(url: str) -> tuple[str, bool, str]:
    """Where it leads, without the password; whether to a cluster; and the URL without our own parameter."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError as error:
        raise Usage(f"redis: the URL cannot be read: {error}") from error
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise Usage(f"redis: a URL begins with redis://, rediss:// or unix://, not with {parts.scheme[:20]!r}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    is_cluster = any(name == "cluster" and value.lower() in ("true", "1", "yes") for name, value in query)
    rest = urlencode([(name, value) for name, value in query if name != "cluster"])
    place = parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{port}"
    return place, is_cluster, urlunsplit(parts._replace(query=rest))


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
