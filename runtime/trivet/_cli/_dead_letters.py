"""`trivet dead-letters`: list, show, replay and purge events that were given up.

Owns an operator's selection of dead letters.
Never knows more of the store than its file, nor whether the program that owns it is running.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import click

from .._faults._errors import ConfigurationError
from .._program._reading import load_settings
from .._program._settings import IN_MEMORY
from .._store._records import DeadLetter
from ._options import config_option
from ._printing import everything, facts, print_json, print_table

if TYPE_CHECKING:
    from .._store._dead_letters import DeadLetters

F = TypeVar("F", bound=Callable[..., None])

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
            print_json(facts(letter))
    else:
        print_table(letters)
    if more > 0:
        click.echo(f"and {more} older; --limit {limit + more} lists all", err=as_json)


@dead_letters.command()
@click.argument("number", type=_number)
@config_option
def show(number: int, config: Path | None) -> None:
    """Print one dead letter, with its payload, as a JSON document."""
    with _opened(config) as store:
        letter = _get(store, number)
    print_json(everything(letter), indent=2)


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


def _counted(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"
