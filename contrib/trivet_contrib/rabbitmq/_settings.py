"""What the settings of source and sink have in common.

Owns the checks of a URL, which never repeat it, and of names.
Never knows what is done with them.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

FORM = "amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST], or amqps:// for TLS"
LONGEST = 255
"""Bytes of a name in AMQP."""


def is_amqp_url(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse what is none."""
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise ValueError(f"not a URL: expected {FORM}") from None
    if url.scheme not in ("amqp", "amqps") or not url.hostname or port == 0 or url.query:
        raise ValueError(f"expected {FORM}")


def is_short(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse what is too long for a name."""
    if len(value.encode()) > LONGEST:
        raise ValueError(f"a name has at most {LONGEST} bytes")


def is_name(plugin: object, field: attrs.Attribute[str], value: str) -> None:
    """The same, and what is empty."""
    if not value:
        raise ValueError("a name is not empty")
    is_short(plugin, field, value)
