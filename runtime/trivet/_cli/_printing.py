"""The look of a dead letter, as a line of a table and as a JSON document.

Owns the table and the documents, and spells out the characters that could command a terminal.
Never knows where dead letters are, nor which ones an operator means.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import click
import msgspec

from .._events._history import FIRST, History
from .._faults._errors import EventDecodeError
from .._store._packing import Envelope, unpack_history
from .._store._records import DeadLetter

HEAD = ("NUMBER", "DIED AT", "PLUGIN", "EVENT", "ID", "ATTEMPTS", "REASON")
SHOWN_OF_ID = 24
"""Characters of an event's id that a table in a terminal shows; `show` prints the whole id."""


def facts(letter: DeadLetter) -> dict[str, object]:
    """The facts of one dead letter in a list, without its payload."""
    return {
        "number": letter.number,
        "plugin": letter.plugin,
        "event": letter.event,
        "id": letter.id,
        "source": letter.source,
        "died_at": _utc(letter.died_at),
        "attempts": _attempts(letter),
        "reason": letter.reason,
    }


def everything(letter: DeadLetter) -> dict[str, object]:
    """The facts of one dead letter, with its failures, its envelope and its payload."""
    history = _history(letter)
    return {
        **facts(letter),
        "crashes": history.crashes,
        "failures": [{"at": _utc(each.at), "error": each.error} for each in history.failures],
        "envelope": _envelope(letter.envelope),
        "payload": _payload(letter.payload),
    }


def _attempts(letter: DeadLetter) -> int:
    """Attempts at the event, crashes with the event in flight included."""
    history = _history(letter)
    return history.attempts + history.crashes


def _history(letter: DeadLetter) -> History:
    """The history of the attempts; an empty one if it is damaged in the file."""
    try:
        return unpack_history(letter.history)
    except EventDecodeError:
        return FIRST


ENVELOPE = ("type", "id", "source", "time", "key", "expires_at", "request_id", "traceparent")
"""Names for the parts of a stored envelope, but for the last, which is internal."""


def _envelope(envelope: bytes) -> object:
    """The envelope's parts by name; the bytes of the file if they are damaged."""
    try:
        parts = msgspec.json.decode(envelope, type=Envelope)
    except (ValueError, RecursionError):
        return _payload(envelope)
    document: dict[str, object] = dict(zip(ENVELOPE, parts[:-1], strict=True))
    if (expires := parts[5]) is not None:
        document["expires_at"] = _utc(expires)
    return document


def _payload(payload: bytes) -> object:
    """The payload as it was stored; as text if it is not JSON, which may be the reason."""
    try:
        msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return payload.decode(errors="backslashreplace")
    return msgspec.Raw(payload)


def print_json(document: Mapping[str, object], *, indent: int = -1) -> None:
    """Print a document in UTF-8, whatever the terminal's encoding: JSON has no other."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=indent).decode()
    click.echo("\n".join(plain(line, _in_json) for line in text.split("\n")).encode())


def print_table(letters: Sequence[DeadLetter]) -> None:
    """Print a line for each dead letter; in a terminal, no line is longer than it is wide."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if not letters:
        click.echo("no dead letters")
        return
    for line in _table([HEAD, *(_cells(letter, width) for letter in letters)]):
        # A terminal whose encoding has no such letter gets its number.
        click.echo(_cut(line, width).encode(sys.stdout.encoding, "backslashreplace"))


def _cells(letter: DeadLetter, width: int | None) -> tuple[str, ...]:
    return (
        str(letter.number),
        f"{_utc(letter.died_at):%Y-%m-%dT%H:%M:%SZ}",
        plain(letter.plugin),
        plain(letter.event),
        _cut(plain(letter.id), width and SHOWN_OF_ID),
        str(_attempts(letter)),
        plain(letter.reason),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _utc(seconds: float) -> datetime:
    """The moment, or the last or first moment of the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC) if seconds > 0 else datetime(1, 1, 1, tzinfo=UTC)


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
