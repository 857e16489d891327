"""Sign webhooks as Standard Webhooks says, so that a receiver verifies them with any of its libraries. Pure.

Source:
    The Standard Webhooks specification 1.0.0, "Signature scheme" and "Webhook headers". Tested against its own test
    vector and against the package `standardwebhooks`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
KEY_BYTES_MIN: Final = 24
KEY_BYTES_MAX: Final = 64


def key_of(secret: str) -> bytes:
    """The key that a secret stands for.

    Args:
        secret: `whsec_` and the base64 of 24 to 64 bytes.

    Raises:
        ValueError: If it is none; the text goes on after "must be".
    """
    wanted = f"{PREFIX} and the base64 of {KEY_BYTES_MIN} to {KEY_BYTES_MAX} random bytes"
    if not secret.startswith(PREFIX):
        raise ValueError(wanted)
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(wanted) from None
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"{wanted}, and this one has {len(key)} bytes")
    return key


def signed_headers(event_id: str, timestamp_s: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Headers that go with a body.

    Args:
        event_id: Contains no dot; the same for every sending.
        timestamp_s: When this sending begins, seconds since the Unix epoch.
        keys: One, or during a rotation several: a receiver needs to know one of them.
    """
    content = b"%s.%d.%s" % (event_id.encode(), timestamp_s, body)
    signatures = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
