"""TLS contexts out of PEM files."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from shadow.errors import Usage

_PROTOCOLS = ["http/1.1"]


def server_context(where: str, *, certificate: str, key: str, client_ca: str | None) -> ssl.SSLContext:
    """How clients are spoken to: TLS 1.2 or newer.

    Args:
        where: Section of the configuration, for what is said of a file that cannot be used.
        certificate: PEM file of the server's certificate and its chain.
        key: PEM file of its private key.
        client_ca: PEM file of the authorities whose certificates clients must show; None: they need none.

    Raises:
        Usage: If a file cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(_PROTOCOLS)
    _own(where, context, certificate, key)
    if client_ca is not None:
        _trust(f"{where}.client_ca", context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(where: str, *, ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """How upstreams are spoken to: TLS 1.2 or newer, certificate and name verified.

    Args:
        where: As above.
        ca: PEM file of the authorities that are trusted; None: those of the system.
        certificate: PEM file of our own certificate; None: we show none.
        key: PEM file of its private key.

    Raises:
        Usage: If a file cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH) if ca is None else _empty_context()
    context.set_alpn_protocols(_PROTOCOLS)
    if ca is not None:
        _trust(f"{where}.ca", context, ca)
    if certificate is not None and key is not None:
        _own(where, context, certificate, key)
    return context


def _empty_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _own(where: str, context: ssl.SSLContext, certificate: str, key: str) -> None:
    _check_readable([(f"{where}.certificate", certificate), (f"{where}.key", key)])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise Usage(f"{where}: {certificate} and {key} are not a PEM certificate and its unencrypted key") from error


def _no_password() -> str:
    raise ValueError("keys with a password are not read")


def _trust(where: str, context: ssl.SSLContext, ca: str) -> None:
    _check_readable([(where, ca)])
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise Usage(f"{where}: {ca} holds no PEM certificates") from error


def _check_readable(files: Iterable[tuple[str, str]]) -> None:
    for where, name in files:
        try:
            Path(name).open("rb").close()
        except OSError as error:
            raise Usage(f"{where}: {name} cannot be read: {error.strerror}") from error
