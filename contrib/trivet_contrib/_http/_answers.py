"""The answer of an HTTP server: its status, its reason, and when to ask again.

Owns the reading of an answer, and the trusted authorities, for the connectors that speak HTTP.
Never knows Trivet, nor which statuses mean success.
"""

from __future__ import annotations

import base64
import html
import re
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote

import attrs
import httpx
import msgspec

LONGEST_REASON = 300
"""Characters of the server's reason, at most."""
SHORTEST_SECRET = 4
"""Characters of a secret that is looked for; a shorter one would be found in every sentence."""


@attrs.frozen
class Answer:
    """The answer of a server."""

    status: int
    """The HTTP status."""
    reason: str
    """The server's own words, which may be empty, or may repeat a part of the request."""
    retry_after: float | None
    """Seconds after which the server wants to be asked again; None if it names none."""


def ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    """The trusted authorities: the usual ones, or those of a file."""
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cafile=ca_file)


def reason_in(body: bytes) -> str:
    """The `message`, `error` or `detail` of a JSON document; otherwise the whole text.

    >>> reason_in(b'{"code": "invalid", "message": "no field"}'), reason_in(b"no such page")
    ('no field', 'no such page')
    """
    try:
        document: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        document = body.decode("utf-8", "replace")
    match document:
        case {"message": str(text)} | {"error": str(text)} | {"detail": str(text)} | str(text):
            return text
        case _:
            return ""


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text of a server as a line for a log; the text is withheld if it repeats a secret.

    A secret is looked for as it was sent, and as it is written in a URL and in HTML.

    >>> redacted("no such event", ["t0ken"]), redacted("I do not know Bearer T0KEN", ["t0ken"])
    ('no such event', '(withheld: it repeats a secret)')
    """
    plain = _normalized(text)
    if any(_normalized(each) in plain for each in secrets if len(each) >= SHORTEST_SECRET):
        return "(withheld: it repeats a secret)"
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+", " ", text).strip()[:LONGEST_REASON]


def _normalized(text: str) -> str:
    """A text without escapes, blanks and upper case."""
    return re.sub(r"\s+", "", unquote(html.unescape(text))).casefold()


def basic_credentials(username: str, password: str) -> str:
    """The form of a name and a password in a header, which is as readable as the password."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the time in `Retry-After`; None if it is missing, or makes no sense.

    A date counts by the server's own clock if the answer has a `Date`.

    >>> retry_after({"retry-after": "120"})
    120.0
    >>> noon, later = "Fri, 31 Jan 2025 12:00:00 GMT", "Fri, 31 Jan 2025 12:00:30 GMT"
    >>> retry_after({"date": noon, "retry-after": later})
    30.0

    Args:
        headers: the headers of the answer, by names in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:18])
    until = _date(value)
    if until is None:
        return None
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
