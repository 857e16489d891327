"""What must hold of every outcome, whatever the client and the upstream sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import h11

from tests.proxy.fuzz.readers import REFUSED, Answer, Reading, answers_by_h11, by_h11, by_llhttp
from tests.proxy.fuzz.scene import HASTY, MARK, MARKED, Outcome, Scene
from tests.proxy.inputs.case import Seen
from tests.proxy.kit import PARTITIONS

_UPGRADE: Final = re.compile(
    rb"Connection: Upgrade\r\nUpgrade: websocket\r\n(?:Content-Length: 0\r\n)?\r\n(.*)", re.DOTALL
)
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://[^/?#]*(.*)", re.DOTALL)


def in_origin_form(seen: Seen) -> Seen:
    """A request with its target as a proxy must forward it (RFC 9112 3.2.1 and 3.2.4)."""
    match = _ABSOLUTE.fullmatch(seen.target)
    if match is None:
        return seen
    path = match[1]
    if not path.startswith(b"/"):
        path = b"*" if not path and seen.method == b"OPTIONS" else b"/" + path
    return Seen(seen.method, path, seen.body)


def check(scene: Scene, outcome: Outcome) -> None:
    """Hold the outcome against every promise.

    Raises:
        AssertionError: With the promise that is broken.
    """
    assert not outcome.escaped, outcome.escaped
    assert outcome.rests, "the proxy does not come to rest"
    _check_nothing_is_left(outcome)
    _check_mark(outcome)
    assert outcome.snapshot is not None
    if outcome.snapshot.counters.tunnels:
        _check_tunnel(scene, outcome)
        return
    forwarded = [_forwarded(bytes(data)) for data in outcome.forwarded]
    _check_count(scene, outcome, forwarded)
    *messages, mark = [message for reading in forwarded for message in reading.messages]
    assert mark == MARK
    requests = _requests(scene, outcome, messages)
    answers = _answers(scene, outcome, requests)
    _check_copies(outcome, requests, answers)


def _check_mark(outcome: Outcome) -> None:
    """The client that comes behind gets its own answer, whole and alone."""
    answers, rest = answers_by_h11(bytes(outcome.marked), [MARK.method], has_ended=False)
    assert ([(200, MARKED)], b"") == ([(answer.status, answer.body) for answer in answers], rest), outcome.marked


def _check_nothing_is_left(outcome: Outcome) -> None:
    snapshot = outcome.snapshot
    assert snapshot is not None
    assert outcome.is_drained, "the drain left something behind"
    assert (0, 0, 0) == (snapshot.open_clients, snapshot.active, snapshot.held_bytes), snapshot
    for counts in snapshot.partitions.values():
        lost = sum(number for reason, number in counts.dropped.items() if reason != "kafka_down")
        assert counts.seen == counts.sequence + lost, counts
    assert sum(counts.sequence for counts in snapshot.partitions.values()) == len(outcome.writer.copies())
    assert [True] * PARTITIONS == [report.is_final for _, report in outcome.writer.reports()]


def _check_tunnel(scene: Scene, outcome: Outcome) -> None:
    """Behind a request for a WebSocket that was granted, the client's bytes go upstream as they are."""
    tunnels = [found for data in outcome.forwarded if (found := _UPGRADE.search(data))]
    assert tunnels, "a tunnel without a request for one"
    assert tunnels[-1][1] in scene.sent
    assert b"HTTP/1.1 101 " in outcome.received


def _forwarded(data: bytes) -> Reading:
    """What stands in the bytes of one upstream connection, on which both readers must agree."""
    reading, other = by_h11(data), by_llhttp(data)
    assert REFUSED != reading.end, f"h11 refuses what was forwarded: {data!r}"
    assert (reading.messages, reading.begun) == (other.messages, other.begun), f"the readers differ on {data!r}"
    return reading


def _check_count(scene: Scene, outcome: Outcome, forwarded: Sequence[Reading]) -> None:
    """Each live request was begun once upstream, but for those sent again and those that no connection took."""
    assert outcome.snapshot is not None
    counters = outcome.snapshot.counters
    seen = sum(counts.seen for counts in outcome.snapshot.partitions.values())
    begun = sum(reading.begun for reading in forwarded)
    surplus = begun - counters.retries + counters.failures.get("connect", 0) - seen
    # The head of a request may have gone before its body turned out to be malformed; then the connection ends.
    most = min(1, sum(counters.malformed.values()))
    # A hasty client may be gone before a connection is there.
    least = -1 if scene.flags & HASTY else 0
    assert least <= surplus <= most, f"begun upstream: {begun}, live: {seen}, {counters}"


def _requests(scene: Scene, outcome: Outcome, forwarded: list[Seen]) -> Reading:
    """The client's requests as another reader finds them, among which the forwarded ones must be, in order."""
    assert outcome.snapshot is not None
    retries = outcome.snapshot.counters.retries
    for reading in (by_h11(scene.sent), by_llhttp(scene.sent)):
        reading.messages = [in_origin_form(seen) for seen in reading.messages]
        if _is_within(forwarded, reading.messages, retries):
            return reading
    raise AssertionError(f"no reader finds the forwarded requests {forwarded} in {scene.sent!r}")


def _is_within(forwarded: Sequence[Seen], sent: Sequence[Seen], retries: int) -> bool:
    at, last = 0, None
    for seen in forwarded:
        found = next((index for index in range(at, len(sent)) if sent[index] == seen), None)
        if found is None:
            if seen != last or not retries:
                return False
            retries -= 1
        else:
            at, last = found + 1, seen
    return True


def _answers(scene: Scene, outcome: Outcome, requests: Reading) -> list[Answer]:
    """The client's answers: one for each whole request, and one more where a request is refused or answered early."""
    assert outcome.snapshot is not None
    counters = outcome.snapshot.counters
    methods = [seen.method for seen in requests.messages]
    received = bytes(outcome.received)
    if counters.malformed:
        # The one behind the live ones was refused. The mark was live, too.
        methods = methods[: sum(number for status, number in counters.requests.items() if status) - 1]
    # An answer to HEAD has no body, nor has the refusal of what begins as HEAD, however malformed it is behind that.
    behind = requests.methods[len(methods) : len(methods) + 1] or [b"GET"]
    try:
        answers, rest = answers_by_h11(received, [*methods, *behind], has_ended=outcome.has_ended)
    except h11.RemoteProtocolError:
        if len(requests.methods) > len(methods) or not (counters.malformed and b"HEAD " in scene.sent):
            raise
        answers, rest = answers_by_h11(received, [*methods, b"HEAD"], has_ended=outcome.has_ended)
    if outcome.was_open:
        assert len(answers) <= len(methods)
        if not outcome.waiting:
            assert (len(methods), b"") == (len(answers), rest), "an open connection owes an answer"
    return answers


def _check_copies(outcome: Outcome, requests: Reading, answers: Sequence[Answer]) -> None:
    """Each copy holds the bytes of its request and of its answer; the last one is the mark's."""
    assert MARK.target.decode() == outcome.writer.copies()[-1].path
    copies = {copy.request_id: copy for copy in outcome.writer.copies()[:-1]}
    for seen, answer in zip(requests.messages, answers, strict=False):
        request_id = answer.headers.get(b"x-shadow-request", b"-").partition(b"-")[2].decode()
        copy = copies.pop(request_id, None)
        if copy is None or copy.live is None:
            continue
        assert (seen.method.decode(), seen.body) == (copy.method, copy.body)
        assert "***" in copy.path or seen.target == copy.path.encode()
        assert answer.status == copy.live.status
        assert answer.body == copy.live.body
    # Only an answer that broke off has a copy and is not among the whole ones.
    assert len(copies) <= 1, f"copies of unknown requests: {list(copies)}"
