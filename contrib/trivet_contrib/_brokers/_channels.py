"""The servers of a broker, as `GET /asyncapi.json` names them.

Owns what of a connector's URL may be shown.
Never knows a particular broker.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from trivet import Secret


def shown_servers(url: Secret) -> list[str]:
    """The URLs of a setting, which may have several with commas between, without user and password.

    >>> shown_servers(Secret("nats://ann:s3cret@a:4222, tls://b"))
    ['nats://a:4222', 'tls://b']
    """
    found: list[str] = []
    for each in url.reveal().split(","):
        parts = urlsplit(each.strip())
        host = parts.netloc.rpartition("@")[2]
        found.append(f"{parts.scheme}://{host}{parts.path}")
    return found
