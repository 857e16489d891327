"""Which addresses a webhook may be sent to: public ones, so that no URL reaches a service of our own network. Pure.

A name is checked when the configuration loads as far as it can be, and again, by every address that it resolves to,
each time before something is sent.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCAL_NAMES: Final = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


def refusal(address: Address, *, allows_loopback: bool) -> str | None:
    """Why nothing is sent to an address, to go on after it; None where it may be.

    Args:
        allows_loopback: Whether loopback addresses are allowed beside the public ones.
    """
    plain = _unmapped(address)
    if plain.is_loopback:
        return None if allows_loopback else "is a loopback address"
    if plain.is_unspecified:
        return "is no address of a host"
    if plain.is_link_local:
        return "is a link-local address"
    if plain.is_multicast:
        return "is a multicast address"
    is_tunnel = isinstance(plain, ipaddress.IPv6Address) and plain.sixtofour is not None
    is_site = isinstance(plain, ipaddress.IPv6Address) and plain.is_site_local
    # NAT64 and other addresses that hide one of version 4 lie in reserved blocks.
    if not plain.is_global or plain.is_reserved or is_tunnel or is_site:
        return "is not a public address"
    return None


def is_loopback(address: Address) -> bool:
    """Whether an address is this machine's own, in whichever form."""
    return _unmapped(address).is_loopback


def address_in(host: str) -> Address | None:
    """The address that a URL's host is; None where it is a name.

    Raises:
        ValueError: If it is an address in another form than the usual one, such as 0x7f000001 or 127.1, which
            resolvers take as well; or one with a zone. The text goes on after "must be".
    """
    bare = host.removeprefix("[").removesuffix("]")
    if "%" in bare:
        raise ValueError("a host without a zone")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    if ":" in bare or host.startswith("["):
        raise ValueError("a name, or an address as it is usually written")
    if _NUMBER.fullmatch(bare.rstrip(".").rpartition(".")[2]):
        raise ValueError("a name, or an address as it is usually written: four numbers from 0 to 255")
    return None


def host_refusal(host: str, *, allows_loopback: bool) -> str | None:
    """Why a URL's host is refused without asking a resolver, as a sentence; None where it is not.

    Raises:
        ValueError: As `address_in`.
    """
    address = address_in(host)
    if address is not None:
        reason = refusal(address, allows_loopback=allows_loopback)
        return None if reason is None else f"{address} {reason}"
    if is_local_name(host) and not allows_loopback:
        return f"{host} is this machine"
    return None


def is_local_name(host: str) -> bool:
    """Whether a name stands for the loopback by convention (RFC 6761)."""
    name = host.rstrip(".").lower()
    return name in LOCAL_NAMES or name.endswith(".localhost")


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
