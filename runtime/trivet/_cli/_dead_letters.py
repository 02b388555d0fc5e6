"""`trivet dead-letters`: list, show, replay and purge events that were given up.

Owns an operator's selection of dead letters.
Never knows where they are: in the file, or with a program that is asked.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ._options import json_option, reason_option
from ._printing import print_json, print_letters
from ._running import Place, place_options

if TYPE_CHECKING:
    from .._store._dead_letters import Criteria
    from ._letters import Action, Letters

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


# SQLite has no number above that.
_number = click.IntRange(1, 2**63 - 1)
_WHEN = (
    "a date or time in ISO 8601, local unless it names a zone; or a duration before now, as in "
    "30m, 2h, 7d."
)


def _by_facts(command: F) -> F:
    """Give a command the options that select dead letters by their facts."""
    for option in (
        click.option("--text", metavar="TEXT", help="Dead letters whose reason has this text."),
        click.option(
            "--until", type=moment, metavar="WHEN", help="Dead letters from before this moment."
        ),
        click.option(
            "--since",
            type=moment,
            metavar="WHEN",
            help=f"Dead letters from this moment on: {_WHEN}",
        ),
        click.option("--event", metavar="TYPE", help="Dead letters of this type of event."),
        click.option("--plugin", metavar="NAME", help="Dead letters of this plugin."),
    ):
        command = option(command)
    return command


def _selecting(command: F) -> F:
    """Give a command the arguments of `_selected`, and those that say where to look."""
    for option in (
        place_options,
        json_option,
        reason_option,
        click.option("--all", "everything", is_flag=True, help="All dead letters."),
        _by_facts,
        click.argument("numbers", nargs=-1, type=_number, metavar="[NUMBER]..."),
    ):
        command = option(command)
    return command


def _selected(numbers: tuple[int, ...], everything: bool, **by_facts: Any) -> Criteria:
    from .._store._dead_letters import Criteria  # noqa: PLC0415 - see `_opened`

    is_by_facts = any(value is not None for value in by_facts.values())
    if [bool(numbers), is_by_facts, everything].count(True) != 1:
        ways = "their NUMBERs, or --plugin, --event, --since, --until or --text, or --all"
        raise click.UsageError(f"say which dead letters, in one of these ways: {ways}")
    return Criteria(numbers=numbers or None, **by_facts)


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show, replay and purge events that plugins could not handle.

    They are looked for in the file that the settings name, whether its program runs or not; with
    --url, or TRIVET_URL, the running program is asked.

    Exit codes: 0 done, 1 refused, also for a NUMBER that is not there, 2 usage or configuration,
    3 no program answers, or the file cannot be read.
    """


@dead_letters.command("list")
@_by_facts
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="COUNT",
    default=100,
    show_default=True,
    help="At most COUNT, the newest.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, for scripts.")
@place_options
def list_letters(
    limit: int,
    as_json: bool,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
    **by_facts: Any,
) -> None:
    """List the dead letters, the newest last."""
    from .._store._dead_letters import Criteria  # noqa: PLC0415 - see `_opened`

    with _opened(Place(url, token_file, config)) as letters:
        found, count = letters.search(Criteria(**by_facts), limit)
    found.reverse()
    if as_json:
        for letter in found:
            print_json(letter)
    else:
        print_letters(found)
    more = count - len(found)
    if more > 0:
        click.echo(f"and {more} older; --limit {limit + more} lists all", err=as_json)


@dead_letters.command()
@click.argument("number", type=_number)
@click.option("--json", "as_json", is_flag=True, help="In one line, for scripts.")
@place_options
def show(
    number: int, as_json: bool, url: str | None, token_file: Path | None, config: Path | None
) -> None:
    """Print one dead letter, with its payload, as a JSON document."""
    with _opened(Place(url, token_file, config)) as letters:
        letter = letters.get(number)
    print_json(letter, indent=-1 if as_json else 2)


@dead_letters.command()
@_selecting
def replay(as_json: bool, **arguments: Any) -> None:
    """Deliver dead letters again to the plugin that failed.

    No other plugin gets them. The plugin has all its attempts again. A running program begins
    within about a second, a stopped one with its next start.
    """
    _tell(_do("replay", **arguments), "put back into the queues", as_json)


@dead_letters.command()
@_selecting
def purge(as_json: bool, **arguments: Any) -> None:
    """Delete dead letters for ever, without confirmation."""
    _tell(_do("purge", **arguments), "thrown away", as_json)


def _do(
    action: Action,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
    reason: str | None,
    **selection: Any,
) -> int:
    """Replay or purge; if one number is unknown, none of them."""
    chosen, place = _selected(**selection), Place(url, token_file, config)
    if reason is not None and not place.is_named:
        said = "a --reason is for a running program, which logs it: give --url, or TRIVET_URL"
        raise click.UsageError(said)
    with _opened(place) as letters:
        return letters.do(action, chosen, reason)


def _opened(place: Place) -> Letters:
    # SQLite and HTTP, of which other commands of the group's need neither.
    from ._letters import letters_at  # noqa: PLC0415

    return letters_at(place)


def _tell(count: int, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"count": count})
    else:
        click.echo(f"{'1 dead letter' if count == 1 else f'{count} dead letters'} {what}")
