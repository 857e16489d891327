"""Input 107, at load: which URLs of receivers a configuration may have; and input 108, which secrets."""

from __future__ import annotations

import base64
import ipaddress
from typing import Any

import pytest
import yaml

from shadow.errors import InvalidConfiguration, Usage
from shadow.notify.addresses import refusal
from shadow.settings.loader import settings_from_bytes
from tests.settings.configurations import BASE, settings_of

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def problems(env: dict[str, str] | None = None, **endpoint: Any) -> list[str]:
    """What is said of a file with one endpoint."""
    tree = {"notify": {"endpoints": {"on-call": {"secret": SECRET, **endpoint}}}}
    try:
        settings_from_bytes((BASE + yaml.safe_dump(tree)).encode(), env or {})
    except InvalidConfiguration as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    "url",
    [
        "https://alerts.example.com/shadow",
        "https://alerts.example.com:8443/a/b?token=x&y=z",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]/hook",
        "https://xn--bcher-kva.example/hook",
    ],
)
def test_public_urls_are_taken(url: str) -> None:
    """
    Names and public addresses, with port, path and query.
    """
    assert [] == problems(url=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.0.1/",
        "https://127.0.0.1./",
        "https://[::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fd00::1]/",
        "https://0.0.0.0/",
        "https://10.1.2.3/",
        "https://100.64.0.1/",
        "https://192.168.0.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "http://alerts.example.com/",
        "file:///etc/passwd",
        "ftp://alerts.example.com/",
        "gopher://alerts.example.com/",
        "https://user:password@alerts.example.com/",
        "https://alerts.example.com@127.0.0.1/",
        "https://alerts.example.com/#fragment",
        "https://alerts.example.com\\@127.0.0.1/",
        "https://alerts.example.com/a b",
        "https://alerts.example.com:0/",
        "https://alerts.example.com:99999/",
        "https://１２７.0.0.1/",
        "https:///hook",
        "//alerts.example.com/",
        "https://exa mple.com/",
        "https://alerts.example.com/\n",
        "",
    ],
)
def test_input_107_at_load(url: str) -> None:
    """
    What leads, or may lead, to another place than a public host is one problem that names the line, and no password.
    """
    (problem,) = problems(url=url)
    assert "notify.endpoints.on-call" in problem
    assert "must" in problem
    assert "password" not in problem


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/hook", "https://[::1]/", "http://localhost:1/", "https://127.8.9.1/"]
)
def test_the_loopback_must_be_allowed(url: str) -> None:
    """
    With unsafe_loopback a receiver on this machine is taken, by plain HTTP too; nothing else more than without.
    """
    assert 1 == len(problems(url=url))
    assert [] == problems(url=url, unsafe_loopback=True)
    for other in ("http://alerts.example.com/", "https://10.0.0.1/", "https://0.0.0.0/", "http://8.8.8.8/"):
        assert 1 == len(problems(url=other, unsafe_loopback=True))


def test_addresses_that_hide_another_one() -> None:
    """
    Mapped, translated and tunnelled addresses of version 4 are never public.
    """
    inner = ipaddress.ip_address("127.0.0.1")
    hidden = ["::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::"]
    for text in hidden:
        assert refusal(ipaddress.ip_address(text), allows_loopback=False), text
    assert refusal(inner, allows_loopback=True) is None
    assert refusal(ipaddress.ip_address("64:ff9b::7f00:1"), allows_loopback=True)
    assert refusal(ipaddress.ip_address("::ffff:8.8.8.8"), allows_loopback=False) is None


def test_input_108_a_short_secret() -> None:
    """
    A secret of 23 bytes is refused at load, also where it comes from a variable or stands second, and never shown.
    """
    short = "whsec_" + base64.b64encode(b"k" * 23).decode()
    for given in (short, [SECRET, short], "env:SHORT"):
        (problem,) = problems({"SHORT": short}, url="https://alerts.example.com/", secret=given)
        assert "24 to 64 random bytes" in problem
        assert short not in problem
    (problem,) = problems(url="https://alerts.example.com/", secret=[SECRET] * 5)
    assert "at most 4" in problem


def test_an_absent_secret_is_missed_by_who_needs_it() -> None:
    """
    A variable that is not set is no problem of the file; the notifier names it.
    """
    settings = settings_of(
        BASE + "notify: {endpoints: {a: {url: 'https://e.example/', secret: ['env:A', 'env:B']}}}\n", {"A": SECRET}
    )
    with pytest.raises(Usage, match=r"notify\.endpoints\.a\.secret: the environment variable B is not set"):
        settings.notify.endpoints["a"].keys("a")
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("notify: {}", "must have at least one entry"),
        ("notify: {endpoints: {}}", "must have at least one entry"),
        ("notify: []", "must be a mapping"),
        ("notify: {endpoints: {a: 1}}", "must be a mapping"),
        ("notify: {endpoint: {}}", "did you mean endpoints?"),
        ("notify: {endpoints: {a: {url: 'https://e.example/', secrets: x}}}", "did you mean secret?"),
        ("notify: {endpoints: {a: {url: 'https://e.example/', secret: SECRET, events: [start]}}}", "must be one of"),
        ("notify: {endpoints: {A_B: {url: 'https://e.example/', secret: SECRET}}}", "out of a-z, 0-9 and -"),
        ("notify: {endpoints: {1: {url: 'https://e.example/', secret: SECRET}, 'true': 2}}", "must be a mapping"),
    ],
)
def test_what_is_wrong_with_the_section(text: str, said: str) -> None:
    """
    Each mistake is said in a sentence.
    """
    with pytest.raises(InvalidConfiguration) as raised:
        settings_of(BASE + text.replace("SECRET", SECRET) + "\n")
    assert said in str(raised.value)


def test_who_is_told_changes_nothing_of_a_run() -> None:
    """
    The configuration's digest is the same with and without the section.
    """
    with_section = BASE + f"notify: {{endpoints: {{a: {{url: 'https://e.example/', secret: {SECRET}}}}}}}\n"
    assert settings_of().digest() == settings_of(with_section).digest()


def test_an_endpoints_own_digest_tells_changes_and_no_secret() -> None:
    """
    URL, secret and events change it; it is what ends the silence after 410.
    """
    texts = [
        "{url: 'https://e.example/', secret: SECRET}",
        "{url: 'https://e.example/2', secret: SECRET}",
        "{url: 'https://e.example/', secret: [SECRET, SECRET]}",
        "{url: 'https://e.example/', secret: SECRET, events: [promote]}",
    ]
    found = [
        settings_of(BASE + f"notify: {{endpoints: {{a: {text.replace('SECRET', SECRET)}}}}}\n").notify.endpoints["a"]
        for text in texts
    ]
    assert 4 == len({endpoint.digest("a") for endpoint in found})
