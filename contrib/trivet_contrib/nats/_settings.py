"""The checks that the settings of source and sink share.

Owns the checks of URLs, names, subjects and credentials. A message of a check never repeats a URL.
Never knows what the settings are used for.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import attrs
import nkeys  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]

from trivet import Secret

FORM = "nats://[USER:PASSWORD@ or TOKEN@]HOST[:PORT], or tls://; several, separated by commas"
_JWT = "BEGIN NATS USER JWT"
_SEED = re.compile(r"^\s*(SU[A-Z2-7]{56})\s*$", re.MULTILINE)
_NAME = re.compile(r"[-\w]+", re.ASCII)


def default_url() -> Secret:
    """The URL of a server on this machine."""
    return Secret("nats://127.0.0.1:4222")


def is_nats_url(_plugin: object, _field: attrs.Attribute[Secret], value: Secret) -> None:
    """Refuse a text that is no URL of NATS."""
    for each in value.reveal().split(","):
        try:
            url = urlsplit(each.strip())
            port = url.port
        except ValueError:
            raise ValueError(f"not a URL: expected {FORM}") from None
        has_more = url.path not in ("", "/") or url.query or url.fragment  # A `/` in a password.
        if url.scheme not in ("nats", "tls") or not url.hostname or port == 0 or has_more:
            raise ValueError(f"expected {FORM}")


def are_credentials(
    _plugin: object, _field: attrs.Attribute[Secret | None], value: Secret | None
) -> None:
    """Refuse a text without credentials."""
    if value is None:
        return
    try:
        seed_of(value.reveal())
    except nkeys.NkeysError:
        place = value.file or "the text"
        fault = "holds neither a user's credentials (`.creds`) nor the seed of its nkey"
        raise ValueError(f"{place} {fault}") from None


def seed_of(credentials: str) -> str | None:
    """The seed of a user's nkey; None where there is a JWT besides.

    Raises:
        NkeysError: the text is neither.
    """
    found = _SEED.search(credentials)
    seed = found[1] if found else ""
    nkeys.from_seed(seed.encode())  # pyright: ignore[reportUnknownMemberType]
    return None if _JWT in credentials else seed


def is_name(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse a text that cannot be the name of a stream or a consumer."""
    if not _NAME.fullmatch(value):
        raise ValueError("a name is made of letters of ASCII, digits, `_` and `-`")


def is_name_or_empty(plugin: object, field: attrs.Attribute[str], value: str) -> None:
    """Refuse a text that cannot be a name; an empty text stands for the default."""
    if value:
        is_name(plugin, field, value)


def is_subject(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse a subject that cannot be published to."""
    if value and not all(_NAME.fullmatch(each) for each in value.split(".")):
        raise ValueError("a subject is made of names with dots between them")


def is_filter(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse a text that is no subject; `*` and `>` are allowed."""
    *names, last = value.split(".")
    if not value or ((last == ">" or _is_token(last)) and all(map(_is_token, names))):
        return
    raise ValueError(
        "a subject is made of names with dots between them, `*` for any, `>` at the end"
    )


def _is_token(text: str) -> bool:
    return text == "*" or _NAME.fullmatch(text) is not None
