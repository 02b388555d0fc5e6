"""`trivet dead-letters`: list, show, replay and purge events that were given up.

Owns an operator's selection of dead letters, and the look of one in a terminal.
Never knows more of the store than its file, nor whether the program that owns it is running.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import click
import msgspec

from .._events._history import FIRST, History
from .._faults._errors import ConfigurationError, EventDecodeError
from .._program._settings import IN_MEMORY, load_settings
from .._store._packing import Envelope, unpack_history
from .._store._records import DeadLetter
from ._options import config_option

if TYPE_CHECKING:
    from .._store._dead_letters import DeadLetters

F = TypeVar("F", bound=Callable[..., None])

HEAD = ("NUMBER", "DIED AT", "PLUGIN", "EVENT", "ID", "ATTEMPTS", "REASON")
SHOWN_OF_ID = 24
"""Characters of an event's id that a table in a terminal shows; `show` prints the whole id."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""Seconds in each unit of a duration."""


def moment(text: str) -> float:
    """A moment in seconds since 1970, from a date, a date and time, or a duration before now.

    >>> moment("2026-03-01T12:00Z") - moment("2026-03-01T12:00+01:00")
    3600.0
    """
    ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if ago is not None:
        return time.time() - int(ago[1]) * UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()  # Without a zone, by the local clock.
    except (ValueError, OverflowError) as error:
        expected = "a date or time such as 2026-03-01 or 2026-03-01T12:00Z, or 30m, 2h, 7d"
        raise click.BadParameter(f"{text!r} is not {expected}") from error


@attrs.frozen
class Selection:
    """The dead letters that are meant; None for a criterion that does not matter."""

    numbers: Sequence[int] | None
    plugin: str | None
    since: float | None


# SQLite has no number above that.
_number = click.IntRange(1, 2**63 - 1)
_plugin_option = click.option("--plugin", metavar="NAME", help="Dead letters of this plugin.")
_since_option = click.option(
    "--since",
    type=moment,
    metavar="WHEN",
    help="Dead letters from this moment on: a date or time in ISO 8601, local unless it names a "
    "zone; or a duration before now, as in 30m, 2h, 7d.",
)


def _selecting(command: F) -> F:
    """Give a command the arguments of `_selected`, and `--config`."""
    for option in (
        config_option,
        click.option("--all", "everything", is_flag=True, help="All dead letters."),
        _since_option,
        _plugin_option,
        click.argument("numbers", nargs=-1, type=_number, metavar="[NUMBER]..."),
    ):
        command = option(command)
    return command


def _selected(
    numbers: tuple[int, ...], plugin: str | None, since: float | None, everything: bool
) -> Selection:
    by_facts = plugin is not None or since is not None
    if [bool(numbers), by_facts, everything].count(True) != 1:
        ways = "their NUMBERs, or --plugin, --since or both, or --all"
        raise click.UsageError(f"say which dead letters, in one of these ways: {ways}")
    return Selection(numbers or None, plugin, since)


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show, replay and purge events that plugins could not handle.

    The program that owns the store may run or not.
    """


@dead_letters.command("list")
@_plugin_option
@_since_option
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="COUNT",
    default=100,
    show_default=True,
    help="At most COUNT, the newest.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, for scripts.")
@config_option
def list_letters(
    plugin: str | None, since: float | None, limit: int, as_json: bool, config: Path | None
) -> None:
    """List the dead letters, the newest last."""
    with _opened(config) as store:
        letters = store.list(plugin=plugin, since=since, limit=limit)[::-1]
        more = store.count(plugin=plugin, since=since) - len(letters)
    if as_json:
        for letter in letters:
            _print_json(_facts(letter))
    else:
        _print_table(letters)
    if more > 0:
        click.echo(f"and {more} older; --limit {limit + more} lists all", err=as_json)


@dead_letters.command()
@click.argument("number", type=_number)
@config_option
def show(number: int, config: Path | None) -> None:
    """Print one dead letter, with its payload, as a JSON document."""
    with _opened(config) as store:
        letter = _get(store, number)
    history = _history(letter)
    failures = [{"at": _utc(each.at), "error": each.error} for each in history.failures]
    document = {
        **_facts(letter),
        "crashes": history.crashes,
        "failures": failures,
        "envelope": _envelope(letter.envelope),
        "payload": _payload(letter.payload),
    }
    _print_json(document, indent=2)


@dead_letters.command()
@_selecting
def replay(config: Path | None, **selection: Any) -> None:
    """Deliver dead letters again to the plugin that failed.

    No other plugin gets them. The plugin has all its attempts again. A running program begins
    within about a second, a stopped one with its next start.
    """
    replayed = _do("replay", config, _selected(**selection))
    click.echo(f"{_counted(replayed)} put back into the queues")


@dead_letters.command()
@_selecting
def purge(config: Path | None, **selection: Any) -> None:
    """Delete dead letters for ever, without confirmation."""
    click.echo(f"{_counted(_do('purge', config, _selected(**selection)))} thrown away")


def _do(what: Literal["replay", "purge"], config: Path | None, selection: Selection) -> int:
    """Replay or purge; if one number is unknown, none of them."""
    with _opened(config) as store:
        for number in selection.numbers or ():
            _get(store, number)
        do = store.replay if what == "replay" else store.purge
        return do(selection.numbers, plugin=selection.plugin, since=selection.since)


def _opened(config: Path | None) -> DeadLetters:
    """The dead letters in the file that the settings name.

    Raises:
        ConfigurationError: there is no such file.
        JournalError: the file is no store, or cannot be read.
    """
    # SQLite, which `trivet serve` does not need.
    from .._store._dead_letters import DeadLetters  # noqa: PLC0415
    from .._store._schema import reported  # noqa: PLC0415

    path = load_settings(config).store.path
    if path == IN_MEMORY:
        raise ConfigurationError("`[store] path` is :memory:, and only the program can look there")
    with reported(path):
        if not path.exists():
            raise ConfigurationError(
                f"{path}: there is no such file; `[store] path` says where the store is, "
                "which is made when a program with a durable plugin starts"
            )
    return DeadLetters(path)


def _get(store: DeadLetters, number: int) -> DeadLetter:
    letter = store.get(number)
    if letter is None:
        raise click.UsageError(f"there is no dead letter {number}")
    return letter


# The look of a dead letter.


def _facts(letter: DeadLetter) -> dict[str, object]:
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


def _print_json(document: dict[str, object], *, indent: int = -1) -> None:
    """Print a document in UTF-8, whatever the terminal's encoding: JSON has no other."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=indent).decode()
    click.echo("\n".join(_plain(line, _in_json) for line in text.split("\n")).encode())


def _print_table(letters: Sequence[DeadLetter]) -> None:
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
        _plain(letter.plugin),
        _plain(letter.event),
        _cut(_plain(letter.id), width and SHOWN_OF_ID),
        str(_attempts(letter)),
        _plain(letter.reason),
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


def _counted(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"


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


def _plain(text: str, write_out: Callable[[str], str] = _in_python) -> str:
    r"""The text without characters that end a line, command a terminal, or turn its direction.

    >>> _plain("\x1b[2Jgreen \u202e tea")
    '\\x1b[2Jgreen \\u202e tea'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else write_out(char) for char in text)
