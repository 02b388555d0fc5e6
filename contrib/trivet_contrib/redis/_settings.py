"""The check of a URL, which the settings of source and sink share.

Owns the forms of a URL. A message of the check never repeats the URL.
Never knows what the URL is used for.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import attrs

from trivet import Secret

FORMS = "redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS, or unix://PATH[?db=DB]"


def default_url() -> Secret:
    """The URL of a server on this machine."""
    return Secret("redis://127.0.0.1:6379")


def is_redis_url(_plugin: object, _field: attrs.Attribute[Secret], value: Secret) -> None:
    """Refuse a text that is no URL of Redis."""
    try:
        url = urlsplit(value.reveal())
        port = url.port
    except ValueError:
        raise ValueError(f"not a URL: expected {FORMS}") from None
    if url.scheme == "unix" and url.path and re.fullmatch(r"(db=\d+)?", url.query):
        return
    if url.query:
        raise ValueError(f"options behind a `?` are not supported; expected {FORMS}")
    if url.scheme not in ("redis", "rediss") or not url.hostname or port == 0:
        raise ValueError(f"expected {FORMS}")
