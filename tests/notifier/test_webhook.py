"""One sending: what is accepted as an answer, and where it goes and never goes (input 107 at connect; P18)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest
from standardwebhooks import Webhook

from shadow.adapters.tls import client_context
from shadow.adapters.webhook import CheckedConnector, CheckedResolver, Resolve, Target, resolved, send
from shadow.notify.addresses import Address
from shadow.notify.events import BODY_TYPE, body_of, event_of
from shadow.notify.place import DELIVERED, FAILED, GONE, REFUSED, Outcome, outcome_of
from shadow.notify.signing import key_of
from tests.notifier.receiver import Receiver, crash, drip, hang, status
from tests.notifier.records import decision
from tests.notifier.test_addresses import SECRET

EVENT = event_of(decision())
BODY = body_of(EVENT, "decisions")


def target(receiver: Receiver, **changes: object) -> Target:
    """An endpoint that leads to a receiver, and trusts its certificate."""
    tls = client_context("test", ca=receiver.ca, certificate=None, key=None) if Path(receiver.ca).exists() else None
    fields: dict[str, object] = {"url": receiver.url, "keys": (key_of(SECRET),), "tls": tls, "allows_loopback": True}
    return Target("on-call", **{**fields, **changes})


def sent(to: Target, *, timeout_s: float = 15.0, resolve: Resolve = resolved) -> Outcome:
    """Send the event once."""
    now_s = int(time.time())
    return asyncio.run(
        send(to, EVENT.event_id, BODY, BODY_TYPE, timestamp_s=now_s, resolve=resolve, timeout_s=timeout_s)
    )


def resolving(*addresses: str) -> Resolve:
    """A resolver that gives these."""

    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [ipaddress.ip_address(address) for address in addresses]

    return resolve


def test_what_arrives_is_verified_by_the_reference_library(tmp_path: Path) -> None:
    """
    P18: id, time and signature over the very bytes of the body, by TLS.
    """
    with Receiver(tmp_path) as receiver:
        assert Outcome(DELIVERED) == sent(target(receiver))
        (got,) = receiver.got
    assert Webhook(SECRET).verify(got.body, got.headers)["id"] == got.event_id == EVENT.event_id
    assert (BODY, BODY_TYPE) == (got.body, got.headers["content-type"])
    assert not {"cookie", "authorization", "accept-encoding"} & set(got.headers) - {"accept-encoding"}


MEANINGS = {
    DELIVERED: (200, 202, 204, 299),
    FAILED: (199, 302, 400, 401, 404, 429, 500, 503, 600),
    GONE: (410,),
    REFUSED: (413,),
}


@pytest.mark.parametrize(("kind", "number"), [(kind, number) for kind in MEANINGS for number in MEANINGS[kind]])
def test_what_a_status_means(kind: str, number: int) -> None:
    """
    2xx is delivered, 410 ends the endpoint, 413 ends the event, and all else is tried again.
    """
    assert kind == outcome_of(number).kind


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [("120", 120.0), (" 7 ", 7.0), ("-1", 0.0), ("soon", 0.0), ("9" * 30, 0.0), ("1e9", 0.0), ("٣", 0.0)],
)
def test_a_receiver_may_ask_to_wait(text: str, wait_s: float) -> None:
    """
    Retry-After in seconds is read; anything else asks for nothing.
    """
    assert wait_s == outcome_of(503, text).wait_s


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """
    Input 107: a receiver that sends on to the loopback has one request, and whoever listens there has none.
    """
    with Receiver(tmp_path) as receiver, Receiver(tmp_path, is_plain=True) as inner:
        for number in (301, 302, 307, 308):
            receiver.answer = status(number, location=inner.url)
            outcome = sent(target(receiver))
            assert (FAILED, True) == (outcome.kind, "redirects are not followed" in outcome.error)
        assert (4, 0) == (len(receiver.got), len(inner.got))


def test_a_slow_body_holds_nobody_up(tmp_path: Path) -> None:
    """
    The status is the answer: a body that drips for a minute is not waited for.
    """
    with Receiver(tmp_path) as receiver:
        receiver.answer = drip
        assert Outcome(DELIVERED) == sent(target(receiver), timeout_s=10.0)


def test_a_receiver_that_says_nothing_or_dies(tmp_path: Path) -> None:
    """
    A time-out, a broken connection and a closed port are failures, each with a sentence.
    """
    with Receiver(tmp_path) as receiver:
        receiver.answer = hang
        assert Outcome(FAILED, "the receiver did not answer within 0.3 s") == sent(target(receiver), timeout_s=0.3)
        receiver.answer = crash
        assert FAILED == sent(target(receiver)).kind
        gone = target(receiver)
    outcome = sent(gone)
    assert (FAILED, True) == (outcome.kind, "127.0.0.1" in outcome.error)


def test_certificates_are_verified(tmp_path: Path) -> None:
    """
    A certificate of an unknown authority, or for another name, gets nothing.
    """
    with Receiver(tmp_path, names=("other.example",)) as receiver:
        assert FAILED == sent(target(receiver)).kind
        assert FAILED == sent(target(receiver, tls=None)).kind
        assert FAILED == sent(target(receiver, tls=ssl.create_default_context())).kind
        assert [] == receiver.got


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("::ffff:127.0.0.1",),
        ("::1",),
        ("169.254.169.254",),
        ("10.0.0.1",),
        ("8.8.8.8", "127.0.0.1"),
        ("127.0.0.1", "8.8.8.8"),
        ("0.0.0.0",),
        (),
    ],
    ids=lambda addresses: "+".join(addresses) or "none",
)
def test_a_name_that_leads_inside_gets_nothing(addresses: tuple[str, ...], tmp_path: Path) -> None:
    """
    Input 107: a name that resolves, or also resolves, to an address that is not public is refused before a connection.
    """
    with Receiver(tmp_path, is_plain=True) as receiver:
        inward = target(receiver, url=f"https://rebinding.example:{receiver.port}/", allows_loopback=False)
        outcome = sent(inward, resolve=resolving(*addresses))
        assert (FAILED, True) == (outcome.kind, outcome.error.startswith("rebinding.example"))
        assert [] == receiver.got


def test_a_name_that_rebinds_is_connected_where_it_was_checked(tmp_path: Path) -> None:
    """
    Input 107: the name is resolved once for each sending; what it resolves to a moment later is not asked.
    """
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[Address]:
        asked.append(host)
        return [ipaddress.ip_address("127.0.0.1" if len(asked) == 1 else "10.0.0.1")]

    with Receiver(tmp_path, names=("rebinding.example",)) as receiver:
        there = target(receiver, url=f"https://rebinding.example:{receiver.port}/hook")
        assert Outcome(DELIVERED) == sent(there, resolve=resolve)
        outcome = sent(there, resolve=resolve)
    assert (["rebinding.example"] * 2, 1) == (asked, len(receiver.got))
    assert "resolves to 10.0.0.1, which is not a public address" in outcome.error


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f000001", "2130706433", "127.1", "[::ffff:127.0.0.1]", "[::1]"])
def test_addresses_in_urls_are_checked_again(host: str, tmp_path: Path) -> None:
    """
    Input 107: whatever passed the configuration, the address itself is looked at before something is sent.
    """
    with Receiver(tmp_path, is_plain=True) as receiver:
        outcome = sent(target(receiver, url=f"https://{host}:{receiver.port}/", allows_loopback=False))
        assert FAILED == outcome.kind
        assert [] == receiver.got


def test_a_connection_is_looked_at_whatever_led_there(tmp_path: Path) -> None:
    """
    Input 107: were the client to read a URL in another way than the checks, its connection would still get nothing.
    """

    async def posted(strict: Target, lenient: Target) -> None:
        connector = CheckedConnector(strict, CheckedResolver(lenient, resolved))
        try:
            async with aiohttp.ClientSession(connector=connector) as session, session.post(lenient.url, data=BODY):
                pass
        finally:
            await connector.end()

    with Receiver(tmp_path) as receiver:
        lenient = target(receiver)
        with pytest.raises(OSError, match=r"127\.0\.0\.1 is a loopback address; nothing is sent there"):
            asyncio.run(posted(target(receiver, allows_loopback=False), lenient))
        assert [] == receiver.got


def test_plain_http_stays_on_this_machine(tmp_path: Path) -> None:
    """
    A name that must be local for plain HTTP and resolves to a public address gets nothing.
    """
    with Receiver(tmp_path, is_plain=True) as receiver:
        local = target(receiver, url=f"http://localhost:{receiver.port}/")
        assert DELIVERED == sent(local, resolve=resolving("127.0.0.1")).kind
        outcome = sent(local, resolve=resolving("8.8.8.8"))
        assert (FAILED, 1) == (outcome.kind, len(receiver.got))
        assert "plain HTTP goes nowhere else" in outcome.error


def test_proxies_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A proxy that the environment names sees nothing.
    """
    with Receiver(tmp_path) as receiver, socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert Outcome(DELIVERED) == sent(target(receiver))
        with pytest.raises(TimeoutError):
            proxy.accept()
