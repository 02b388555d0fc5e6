"""Events for the journal's tests."""

from __future__ import annotations

from trivet._store._commit import Append
from trivet._store._records import Row, Seen


def appended(row: Row, seen: Seen | None = None) -> Append:
    """The order to put an event into the log, for the plugin of the row."""
    remembered = None if seen is None else [(row.plugin, seen)]
    return Append(row.number, row.envelope, row.payload, [row.plugin], remembered)
