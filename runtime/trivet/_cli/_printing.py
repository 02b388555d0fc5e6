"""The look of what a command prints: tables, and JSON documents.

Owns the tables, and spells out the characters that could command a terminal.
Never knows what is in a table, but for that of dead letters.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO

import click
import msgspec

HEAD = ("NUMBER", "DIED AT", "PLUGIN", "EVENT", "ID", "ATTEMPTS", "REASON")
SHOWN_OF_ID = 24
"""Characters of an event's id that a table in a terminal shows; `show` prints the whole id."""


def print_json(
    document: Mapping[str, object], *, indent: int = -1, file: IO[bytes] | None = None
) -> None:
    """Print a document in UTF-8, whatever the terminal's encoding: JSON has no other."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=indent).decode()
    click.echo("\n".join(plain(line, _in_json) for line in text.split("\n")).encode(), file)


Row = Sequence[str]


def print_letters(letters: Sequence[Mapping[str, object]]) -> None:
    """Print a line for each dead letter; in a terminal, no line is longer than it is wide."""
    if not letters:
        click.echo("no dead letters")
        return
    width = terminal_width()
    print_table([HEAD, *(_cells(letter, width) for letter in letters)])


def terminal_width() -> int | None:
    """The width of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(rows: Sequence[Row]) -> None:
    """Print a table, whose first row is its head; in a terminal, no line is too long for it."""
    width = terminal_width()
    for line in _table([[plain(cell) for cell in row] for row in rows]):
        # A terminal whose encoding has no such letter gets its number.
        click.echo(_cut(line, width).encode(sys.stdout.encoding, "backslashreplace"))


def _cells(letter: Mapping[str, object], width: int | None) -> Row:
    died_at = letter["died_at"]
    if isinstance(died_at, str):
        died_at = datetime.fromisoformat(died_at)
    assert isinstance(died_at, datetime)
    return (
        str(letter["number"]),
        f"{died_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        str(letter["plugin"]),
        str(letter["event"]),
        _cut(plain(str(letter["id"])), width and SHOWN_OF_ID),
        str(letter["attempts"]),
        str(letter["reason"]),
    )


def _table(rows: Sequence[Row]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def _in_python(char: str) -> str:
    return ascii(char)[1:-1]


def _in_json(char: str) -> str:
    r"""A character within a JSON string.

    >>> _in_json("\x7f"), _in_json("\U000e0001")
    ('\\u007f', '\\udb40\\udc01')
    """
    return f"\\u{ord(char):04x}" if char.isascii() else json.dumps(char)[1:-1]


def plain(text: str, write_out: Callable[[str], str] = _in_python) -> str:
    r"""The text without characters that end a line, command a terminal, or turn its direction.

    >>> plain("\x1b[2Jgreen \u202e tea")
    '\\x1b[2Jgreen \\u202e tea'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else write_out(char) for char in text)
