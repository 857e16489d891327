"""A rare slice at quota 1.0 over a base of 0.1, from live requests to tallies: it gets all, nothing else is biased."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import orjson
from scipy.stats import binomtest

from shadow.proxy.sampling import u_of
from shadow.records.answers import Tick
from shadow.records.policy import NoRegression
from shadow.records.requests import MirroredRequest, Origin
from shadow.records.tallies import Key
from shadow.stream.slice import Slicer
from tests.proxy.kit import Upstream, connect, ok, post, running
from tests.stream.builders import RULES, RUN, SECOND, SLICES, AnswersLog, answer, fold_of

REQUESTS = 8000
RARE = 0.05
WRONG_RARE, WRONG = 0.6, 0.1
"""How often the candidate is wrong in the rare slice, and elsewhere."""
BURST = 100
CONFIDENCE = 0.999
"""Keys and errors are fixed by seeds, so this decides once and for all, and no run fails by chance."""


def slices_of(method: str, path: str, headers: Mapping[str, str], body: bytes) -> frozenset[str]:
    shell = MirroredRequest("", "k", 0, method, path, dict(headers), body, 0.0, 1.0, {}, Origin("", 0, 0, 0, {}))
    return frozenset(Slicer(SLICES).slices_of(shell))


def traffic() -> list[tuple[str, bytes]]:
    """Session and body of each request; `search` is rare."""
    chance = random.Random(20261125)
    return [
        (f"session-{n}", orjson.dumps({"text": "search" if chance.random() < RARE else "hello", "odd": n % 2 == 1}))
        for n in range(REQUESTS)
    ]


def mirrored(mirror: dict[str, Any]) -> list[MirroredRequest]:
    """The copies that a proxy makes of the traffic."""

    def serve(connection) -> None:
        while True:
            connection.message()
            connection.send(ok(b"right"))

    with (
        Upstream(serve) as upstream,
        running(upstream.port, mirror=mirror, partitions=lambda: 1) as proxy,
        connect(proxy.port) as client,
    ):
        sent = traffic()
        for at in range(0, REQUESTS, BURST):
            burst = sent[at : at + BURST]
            client.send(b"".join(post(body, "/v1/chat", f"x-session-id: {key}") for key, body in burst))
            for _ in burst:
                assert b"right" == client.message()[2]
        proxy.settled(REQUESTS)
        return proxy.writer.copies()


def is_wrong(copy: MirroredRequest) -> bool:
    """Whether the candidate answers this session wrongly; the same under every sampling."""
    return u_of(f"wrong/{copy.key}") < (WRONG_RARE if b"search" in copy.body else WRONG)


def counted(copies: list[MirroredRequest]) -> dict[str, tuple[int, int]]:
    """Pairs in which the candidate alone is wrong, and all pairs, by slice, as the fold counts them."""
    log = AnswersLog()
    for offset, copy in enumerate(copies):
        log.append(answer(copy, offset, SECOND, body=b"wrong" if is_wrong(copy) else b"right"), 2 * SECOND)
    log.append(Tick(RUN, 0, len(copies)), 10 * SECOND)
    fold = fold_of(dict(enumerate(copies)), rules=(*RULES, NoRegression("correct", slice="odd")))
    closed = [tile for record, content in log.records for tile in fold.apply(record, content).closed]
    assert 1 == len(closed)
    cells = {name: closed[0].tally.vectors[Key(name, "graders", "correct")] for name in ("all", "search", "odd")}
    return {name: (vector[1], sum(vector)) for name, vector in cells.items()}


def test_a_rare_slice_is_counted_whole_and_the_others_without_bias():
    """
    `search` has the very counts of full mirroring; `all` and `odd` have its rate within the interval that their own
    pairs give, which a count of everything that was copied has not.
    """
    full = counted(mirrored({}))
    copies = mirrored({"sample": 0.1, "quotas": {"search": 1.0}, "slices_of": slices_of})
    sampled = counted(copies)
    rare = sum(b"search" in body for _, body in traffic())
    base = sum(u_of(key) < 0.1 for key, _ in traffic())
    assert (rare, REQUESTS) == (full["search"][1], full["all"][1])
    assert full["search"] == sampled["search"]
    assert base == sampled["all"][1]
    for name in ("all", "odd"):
        wrong, pairs = sampled[name]
        interval = binomtest(wrong, pairs).proportion_ci(CONFIDENCE)
        assert interval.low < full[name][0] / full[name][1] < interval.high
    naive = binomtest(sum(map(is_wrong, copies)), len(copies)).proportion_ci(CONFIDENCE)
    assert full["all"][0] / full["all"][1] < naive.low
