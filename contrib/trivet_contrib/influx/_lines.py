r"""Points as lines of InfluxDB's line protocol.

Owns what is escaped where, and what cannot be said at all.
Never knows where the lines go.

Of the protocol's own characters each is escaped where it has a meaning. What no escape can express
is written otherwise: a line's end, a tabulator and NUL as `\n`, `\r`, `\t` and `\0`; and, outside
of strings, a backslash that would be read as an escape, since it stands at the end or before one
of those characters, as `/`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

Value = str | int | float

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEAST, MOST = -(2**63), 2**63 - 1
"""Of an integer, and of a time in nanoseconds."""

_UNSAID = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\0"}
_IN_SERIES = str.maketrans(_UNSAID | {",": r"\,", " ": r"\ "})
_IN_KEY = str.maketrans(_UNSAID | {",": r"\,", " ": r"\ ", "=": r"\="})
_IN_STRING = str.maketrans(
    {key: f"\\{text}" for key, text in _UNSAID.items()} | {'"': r"\"", "\\": r"\\"}
)


class PointError(ValueError):
    """A point that line protocol cannot express."""


class Point(Protocol):
    """What is measured at one moment."""

    @property
    def series(self) -> str:
        """InfluxDB's measurement."""
        ...

    @property
    def time(self) -> datetime:
        """With its UTC offset."""
        ...

    @property
    def tags(self) -> Mapping[str, Value]:
        """What one groups by."""
        ...

    @property
    def fields(self) -> Mapping[str, Value]:
        """What was measured."""
        ...


def to_lines(points: Iterable[Point], tags: Mapping[str, str]) -> bytes:
    """The points, a line each.

    Args:
        points: those to write.
        tags: of each point, where it has not its own of that name.

    Raises:
        PointError: for the first point that cannot be written.
        UnicodeEncodeError: there is a lone surrogate in one of them.
    """
    return "\n".join(to_line(point, tags) for point in points).encode()


def to_line(point: Point, tags: Mapping[str, str]) -> str:
    """One point. Its time is in nanoseconds; its tags are in the order in which InfluxDB has them.

    Left out are tags without a value, and fields that are not a finite number.

    Raises:
        PointError: no name, a name that would begin a comment, no field, or a time too far away.
    """
    series = _escaped(point.series, _IN_SERIES, ", ")
    if not series or series.startswith("#"):
        raise PointError("a series has a name, which does not begin with '#'")
    pairs = [
        (_escaped(name, _IN_KEY, ",= "), _escaped(str(value), _IN_KEY, ",= "))
        for name, value in sorted({**tags, **point.tags}.items())
    ]
    head = ",".join([series, *(f"{name}={value}" for name, value in pairs if name and value)])
    fields = ",".join(
        f"{_escaped(name, _IN_KEY, ',= ')}={value}"
        for name, given in point.fields.items()
        if name and (value := _field(given))
    )
    if not fields:
        raise PointError("a point has a field at least: a string, or a finite number")
    nanoseconds = (point.time - EPOCH) // timedelta(microseconds=1) * 1000
    if not LEAST < nanoseconds <= MOST:
        raise PointError("a point's time is between the years 1678 and 2261")
    return f"{head} {fields} {nanoseconds}"


def _escaped(text: str, table: dict[int, str], special: str) -> str:
    if "\\" in text:
        # Each of several, or the one before would stand before an escape itself.
        text = re.sub(rf"\\+(?=[{special}\n\r\t\0]|\Z)", lambda found: "/" * len(found[0]), text)
    return text.translate(table)


def _field(value: Value) -> str:
    """Empty for what is no number."""
    if isinstance(value, str):
        return f'"{value.translate(_IN_STRING)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and LEAST <= value <= MOST:
        return f"{value}i"
    try:
        number = float(value)
    except OverflowError:
        return ""
    return repr(number) if math.isfinite(number) else ""
