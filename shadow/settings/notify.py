"""`notify`: who is told of beginnings and decisions, by signed webhooks."""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from shadow.errors import Usage
from shadow.notify.addresses import address_in, host_refusal, is_local_name, is_loopback
from shadow.notify.events import EVENTS
from shadow.notify.signing import key_of
from shadow.settings.names import ENV, HOST, PemFile, secret_from
from shadow.settings.section import Section, refused, refused_whole

ENDPOINTS_MAX: Final = 16
SECRETS_MAX: Final = 4
URL_CHARACTERS_MAX: Final = 2048
_LIKE: Final = "must be a URL such as https://alerts.example.com/shadow"


def _webhook_url(value: Any) -> str:
    """A URL, as far as it can be checked without knowing whether the loopback is allowed."""
    if not isinstance(value, str) or len(value) > URL_CHARACTERS_MAX or any(not "!" <= c <= "~" for c in value):
        raise refused(_LIKE)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise refused(_LIKE) from None
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0 or "\\" in value:
        raise refused(_LIKE)
    if "@" in parts.netloc or parts.fragment:
        raise refused("must be a URL without user and fragment; the signature says who sends")
    try:
        if address_in(parts.hostname) is None and not HOST.fullmatch(parts.hostname):
            raise refused(_LIKE)
    except ValueError as error:
        raise refused(f"must be a URL whose host is {error}") from None
    return value


def _secrets(value: Any) -> tuple[SecretStr, ...]:
    given = value if isinstance(value, list | tuple) else [value]
    if not 0 < len(given) <= SECRETS_MAX:
        raise refused(f"must be a secret, or during a rotation a list of at most {SECRETS_MAX}")
    found = tuple(secret_from(each) for each in given)
    for secret in found:
        text = secret.get_secret_value()
        if not text.startswith(ENV):  # one of a variable that is not set is checked by the process that needs it
            try:
                key_of(text)
            except ValueError as error:
                raise refused(f"must be {error}") from None
    return found


def _event(value: Any) -> str:
    if value not in EVENTS:
        raise refused(f"must be one of {', '.join(EVENTS)}")
    return str(value)


class Endpoint(Section):
    """One receiver.

    Args:
        url: Where events are posted to: `https`, to a public address.
        secret: What they are signed with, best as `env:NAME`: `whsec_` and the base64 of 24 to 64 random bytes. A list
            of several during a rotation.
        events: Which events are sent. Without it: all.
        ca: PEM file of the authorities that its certificate is verified by. Without it: those of the system.
        unsafe_loopback: Allows a receiver on this machine, and plain `http` to it; for development.
    """

    url: Annotated[str, BeforeValidator(_webhook_url)]
    secret: Annotated[tuple[SecretStr, ...], BeforeValidator(_secrets)]
    events: tuple[Annotated[str, BeforeValidator(_event)], ...] = ()
    ca: PemFile | None = None
    unsafe_loopback: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        reason = host_refusal(host, allows_loopback=self.unsafe_loopback)
        if reason is not None:
            raise refused_whole(f"{reason}; url must lead to a public address")
        address = address_in(host)
        is_local = is_local_name(host) if address is None else is_loopback(address)
        if parts.scheme == "http" and not (self.unsafe_loopback and is_local):
            raise refused_whole("url is plain http, must be https (http: only to this machine, with unsafe_loopback)")
        return self

    def keys(self, name: str) -> tuple[bytes, ...]:
        """The signing keys.

        Args:
            name: The endpoint's, for what is said.

        Raises:
            Usage: If a secret is to come from a variable that is not set.
        """
        texts = [secret.get_secret_value() for secret in self.secret]
        absent = next((text for text in texts if text.startswith(ENV)), None)
        if absent is not None:
            variable = absent.removeprefix(ENV)
            raise Usage(f"notify.endpoints.{name}.secret: the environment variable {variable} is not set")
        return tuple(key_of(text) for text in texts)

    def digest(self, name: str) -> str:
        """Digest of everything about the endpoint, 16 hexadecimal digits; it tells nothing of the secrets."""
        content = "\n".join((self.url, *self.events, str(self.ca), str(self.unsafe_loopback)))
        keys = self.keys(name)
        return hmac.new(b"".join(keys), content.encode(), "sha256").hexdigest()[:16]


class Notify(Section):
    """Who is told.

    Args:
        endpoints: The receivers by name.
    """

    endpoints: dict[str, Endpoint] = Field(min_length=1, max_length=ENDPOINTS_MAX)
