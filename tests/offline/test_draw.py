"""Drawing suites: stratified, without repeats, and the same for the same records."""

from __future__ import annotations

import random
from dataclasses import replace

from shadow.records.slices import ALL
from shadow.suite.draw import Draw, Drawn, distinct
from shadow.suite.lines import SuiteRequest
from tests.offline.trials import requests_of

COUNT = 400


def slices_of(request: SuiteRequest) -> tuple[str, ...]:
    """One in ten is rare, every other one is even."""
    n = int(request.request_id[1:])
    return (ALL, *(("rare",) if n % 10 == 3 else ()), *(("even",) if n % 2 == 0 else ()))


def drawn_from(requests: list[SuiteRequest], size: int = 60, per_slice: int = 20, seed: str = "1") -> Drawn:
    draw = Draw(size, per_slice, ["rare", "even"], seed)
    for request in requests:
        draw.offer(request, slices_of(request))
    return draw.drawn()


def test_the_same_records_give_the_same_suite() -> None:
    """
    Neither the order of the records nor how often one was sent changes the suite; the seed does.
    """
    requests = list(requests_of(COUNT))
    expected = drawn_from(requests)
    shuffled = requests * 2
    random.Random(7).shuffle(shuffled)
    assert expected.requests == drawn_from(shuffled).requests
    assert expected.requests != drawn_from(requests, seed="2").requests
    assert 60 == len(expected.requests)


def test_rare_slices_get_their_share() -> None:
    """
    Of a slice of one in ten there are as many as were wanted, and of one that is too rare all that there are.
    """
    found = drawn_from(list(requests_of(COUNT)))
    assert found.by_slice["rare"] >= 20
    assert found.by_slice["even"] >= 20
    assert 60 == found.by_slice[ALL]
    assert 5 == drawn_from(list(requests_of(50))).by_slice["rare"]


def test_a_repeated_prompt_and_a_session_count_once() -> None:
    """
    Of several requests with one content, and of several of one session, one is drawn.
    """
    requests = list(requests_of(20))
    repeats = [replace(each, request_id=f"s{each.request_id[1:]}", key="other") for each in requests]
    assert requests == list(drawn_from([*repeats, *requests]).requests)
    assert 1 == len(drawn_from([replace(each, key="one") for each in requests]).requests)
    kept, repeated, of_session = distinct([*requests, *repeats, replace(requests[0], request_id="x", body=b"x")])
    assert (requests, 20, 1) == (kept, repeated, of_session)


def test_white_space_and_clients_make_no_other_content() -> None:
    """
    JSON bodies with the same values are one content, whoever sends them; another content type is another one.
    """
    first = requests_of(1)[0]
    assert first.content == replace(first, body=b'{ "even": true, "n": 0 }').content
    assert first.content == replace(first, headers={**first.headers, "user-agent": "curl"}).content
    assert first.content != replace(first, headers={}).content
