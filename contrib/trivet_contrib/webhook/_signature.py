"""Signatures as in Standard Webhooks 1.0, with shared secrets (`v1`).

Owns the form of a secret, and the three headers of a signed request.
Never knows the meaning of the body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

PREFIX = "whsec_"
LEAST, MOST = 24, 64
"""Bytes of a secret."""


def secret_key(secret: str) -> bytes:
    """The bytes of a secret.

    >>> len(secret_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    24

    Raises:
        ValueError: the text is no secret; the message does not show it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not LEAST <= len(key) <= MOST:
        raise ValueError(
            f"a secret is {PREFIX!r} and {LEAST} to {MOST} random bytes in base64, such as "
            "`openssl rand -base64 24` prints"
        )
    return key


def message_id(*parts: str) -> str:
    """An identifier for a header: the same for the same parts, and different for others.

    >>> len(message_id("shop", "a8f1-17"))
    64
    """
    digest = hashlib.sha256()
    for part in parts:  # Each with its length: ("ab", "c") is not ("a", "bc").
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return digest.hexdigest()


def signed_headers(keys: Iterable[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a request with this body; without a key there is no signature.

    Args:
        keys: one key, or the new one and the old one while a secret is replaced.
        id: the identifier of the message, the same at each attempt, and without a dot.
        timestamp: the time of this attempt, in seconds since 1970.
        body: the body of the request.
    """
    content = b"%b.%d.%b" % (id.encode("ascii"), timestamp, body)
    signatures = [
        f"v1,{base64.b64encode(hmac.digest(key, content, 'sha256')).decode()}" for key in keys
    ]
    headers = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
    return headers | ({"webhook-signature": " ".join(signatures)} if signatures else {})
