"""When a server wants to be asked again, from its answer's headers.

Owns the reading of `Retry-After`, for the connectors that speak HTTP.
Never knows which answers are good ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


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
