r"""Points as lines of InfluxDB's line protocol.

Owns the escapes, and the points that the protocol cannot express.
Never knows where the lines go.

Each of the protocol's own characters is escaped where it has a meaning. Some characters have no
escape, and are replaced: line ends, tabs and NUL become `\n`, `\r`, `\t` and `\0`. Outside of
strings a backslash at the end, or before one of these characters, would be read as an escape; it
becomes `/`.
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
"""The range of an integer, and of a time in nanoseconds."""

_REPLACED = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\0"}
_IN_SERIES = str.maketrans(_REPLACED | {",": r"\,", " ": r"\ "})
_IN_KEY = str.maketrans(_REPLACED | {",": r"\,", " ": r"\ ", "=": r"\="})
_IN_STRING = str.maketrans(
    {key: f"\\{text}" for key, text in _REPLACED.items()} | {'"': r"\"", "\\": r"\\"}
)


class PointError(ValueError):
    """A point that line protocol cannot express."""


class Point(Protocol):
    """Measurements of one moment."""

    @property
    def series(self) -> str:
        """InfluxDB's measurement."""
        ...

    @property
    def time(self) -> datetime:
        """The moment, with a UTC offset."""
        ...

    @property
    def tags(self) -> Mapping[str, Value]:
        """Names and values to group by."""
        ...

    @property
    def fields(self) -> Mapping[str, Value]:
        """Names and values that were measured."""
        ...


def to_lines(points: Iterable[Point], tags: Mapping[str, str]) -> bytes:
    """Points in line protocol, a line each.

    Args:
        points: the points.
        tags: tags of each point; a point's own tag of the same name goes first.

    Raises:
        PointError: a point cannot be written; this is about the first one.
        UnicodeEncodeError: a point has a lone surrogate.
    """
    return "\n".join(to_line(point, tags) for point in points).encode()


def to_line(point: Point, tags: Mapping[str, str]) -> str:
    """One point in line protocol, with its time in nanoseconds, and its tags in InfluxDB's order.

    Tags without a value, and fields that are not finite numbers, are left out.

    Raises:
        PointError: the point has no name, a name that begins a comment, no field, or a time that is
            out of range.
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
        # All of several in a row: the last but one would stand before an escape itself.
        text = re.sub(rf"\\+(?=[{special}\n\r\t\0]|\Z)", lambda found: "/" * len(found[0]), text)
    return text.translate(table)


def _field(value: Value) -> str:
    """A field's value; empty if it is not finite."""
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
