"""What a server that speaks HTTP has answered: its status, its reason, and when to ask again.

Owns the reading of an answer, and how a client asks, for the connectors that speak HTTP.
Never knows Trivet, nor which answers are good ones.
"""

from __future__ import annotations

import base64
import html
import re
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote

import attrs
import httpx
import msgspec
import trio

LONGEST_REASON = 300
"""Characters of what the server says, at most."""
SHORTEST_SECRET = 4
"""Characters of what is looked for; less than that is in every sentence."""
_LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer in which a reason is looked for; what is longer is none."""


@attrs.frozen
class Answer:
    """What a server said."""

    status: int
    """The HTTP status."""
    reason: str
    """In its own words, as they came; they may be none, and they may repeat what was sent."""
    retry_after: float | None
    """Seconds after which it wants to be asked again, if it said so."""


async def ask(http: httpx.AsyncClient, request: httpx.Request, timeout: float) -> Answer:  # noqa: ASYNC109 - two scopes
    """Send a request, and read the answer to its end, so that the connection is free again.

    What is answered is known once the status is; its reason may be cut off.

    Args:
        http: the client.
        request: to send.
        timeout: seconds for all of it.

    Raises:
        httpx.HTTPError: there was no answer.
        trio.TooSlowError: nor any within that time.
    """
    until = trio.current_time() + timeout
    with trio.fail_at(until):
        response = await http.send(request, stream=True)
    said = b""
    try:
        with trio.move_on_at(until), suppress(httpx.HTTPError):
            async for chunk in response.aiter_raw():
                said = (said + chunk)[: _LONGEST_ANSWER + 1]
    finally:
        await response.aclose()
    is_reason = not response.is_success and len(said) <= _LONGEST_ANSWER
    reason = reason_in(said) if is_reason else ""
    return Answer(response.status_code, reason, retry_after(response.headers))


def new_client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """A client that follows no redirect, and heeds no proxy or password of the environment.

    What it sends goes where the settings say, or nowhere. It has no time limit: that of `ask` is on
    the whole of a request, not on each step.
    """
    return httpx.AsyncClient(
        headers={"Accept-Encoding": "identity"},  # Reasons are short, and to be read.
        timeout=httpx.Timeout(None),
        transport=transport,
        trust_env=False,
        follow_redirects=False,
    )


def trust_in(ca_file: Path | None) -> ssl.SSLContext:
    """Whose certificates are believed: the usual authorities', or those of a file."""
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cafile=ca_file)


def reason_in(body: bytes) -> str:
    """What a document of JSON calls its message, error or detail; otherwise all of the text.

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


def shown(text: str, secrets: Iterable[str]) -> str:
    """What others have said, for a log: in one line, not too long, and not if a secret is in it.

    It is looked for as it was sent, and as it is written in a URL and in HTML.

    >>> shown("no such event", ["t0ken"]), shown("I do not know Bearer T0KEN", ["t0ken"])
    ('no such event', '(withheld: it repeats what was sent)')
    """
    told = _bare(text)
    if any(_bare(each) in told for each in secrets if len(each) >= SHORTEST_SECRET):
        return "(withheld: it repeats what was sent)"
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+", " ", text).strip()[:LONGEST_REASON]


def _bare(text: str) -> str:
    """However it was written."""
    return re.sub(r"\s+", "", unquote(html.unescape(text))).casefold()


def words(error: BaseException) -> str:
    """What has happened; where a library says nothing of it, what its cause says."""
    told: BaseException | None = error
    while told is not None and not str(told):
        told = told.__cause__ or told.__context__
    return f"{type(error).__name__}: {told}" if told is not None else type(error).__name__


def basic(username: str, password: str) -> str:
    """As which a password stands in a header, of whom one reads it as easily."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now on, by `Retry-After`; None where it is missing, or says nothing sensible.

    A date is understood by the server's own clock, where the answer has its `Date`.

    >>> retry_after({"retry-after": "120"})
    120.0
    >>> noon, later = "Fri, 31 Jan 2025 12:00:00 GMT", "Fri, 31 Jan 2025 12:00:30 GMT"
    >>> retry_after({"date": noon, "retry-after": later})
    30.0

    Args:
        headers: of the answer; looked up by names in small letters.
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
