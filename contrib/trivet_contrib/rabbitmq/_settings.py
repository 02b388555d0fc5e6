"""The checks that the settings of source and sink share.

Owns the checks of URLs and names. A message of a check never repeats a URL.
Never knows what the settings are used for.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

from trivet import Secret

FORM = "amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST], or amqps:// for TLS"
LONGEST_NAME = 255
"""Bytes of a name in AMQP, at most."""


def default_url() -> Secret:
    """The URL of a server on this machine."""
    return Secret("amqp://127.0.0.1:5672")


def is_amqp_url(_plugin: object, _field: attrs.Attribute[Secret], value: Secret) -> None:
    """Refuse a text that is no URL of RabbitMQ."""
    try:
        url = urlsplit(value.reveal())
        port = url.port
    except ValueError:
        raise ValueError(f"not a URL: expected {FORM}") from None
    if url.scheme not in ("amqp", "amqps") or not url.hostname or port == 0 or url.query:
        raise ValueError(f"expected {FORM}")


def is_short(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse a text that is too long for a name."""
    if len(value.encode()) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} bytes")


def is_name(plugin: object, field: attrs.Attribute[str], value: str) -> None:
    """Refuse a text that is empty, or too long for a name."""
    if not value:
        raise ValueError("a name is not empty")
    is_short(plugin, field, value)
