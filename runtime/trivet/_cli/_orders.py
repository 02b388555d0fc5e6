"""`trivet disable`, `enable`, `pause`, `restart` and the like: orders to a running program.

Owns their arguments, and the line that tells what has become of an order.
Never knows which orders are refused: the running program says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from .._log._levels import NUMBERS
from ._options import complete_plugin, json_option, reason_option
from ._printing import plain, print_json
from ._running import Place, RunningProgram, place_options

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = "Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers."


def _order(name: str, about: str) -> click.Command:
    """A command with one order to one plugin."""

    @click.command(name, help=f"{about}\n\n{EXIT_CODES}")
    @_ordering
    def command(plugin: str, as_json: bool, **place: Any) -> None:
        document = _give(name, plugin, {}, **place)
        paused = ", and delivery is paused" if document["paused"] else ""
        tell(document, as_json, f"{document['plugin']} is {_words(document['status'])}{paused}")

    return command


def _ordering(command: F) -> F:
    """Give a command the arguments of an order."""
    for option in (
        place_options,
        json_option,
        reason_option,
        click.argument("plugin", shell_complete=complete_plugin),
    ):
        command = option(command)
    return command


disable = _order(
    "disable",
    "Stop a PLUGIN of the running program, within the limits of a stop, until it is enabled.",
)
enable = _order("enable", "Start a PLUGIN of the running program that was disabled.")
pause = _order("pause", "Hand no event to a PLUGIN of the running program; events go on coming in.")
resume = _order("resume", "Hand events to a PLUGIN of the running program again.")


@click.command()
@click.argument("plugin", required=False, shell_complete=complete_plugin)
@reason_option
@json_option
@place_options
def restart(plugin: str | None, as_json: bool, **place: Any) -> None:
    """Begin a new lifetime of a PLUGIN of the running program; or restart the whole program.

    Without PLUGIN, a new program with new code and settings is checked beside the old one, and
    takes its place on the same addresses, without refusing a request. If it is not checked, the old
    one serves on, and the order counts as refused.

    Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    if plugin is None:
        document = _ask("/-/restart", {}, **place)
        tell(document, as_json, "a new program takes over")
    else:
        document = _give("restart", plugin, {}, **place)
        tell(document, as_json, f"{document['plugin']} is {_words(document['status'])}")


@click.command()
@click.argument("plugin", required=False, shell_complete=complete_plugin)
@reason_option
@json_option
@place_options
def reload(plugin: str | None, as_json: bool, **place: Any) -> None:
    """Read the settings and changed code of the running program anew; or the code of a PLUGIN.

    Each thing that has changed is told, and what needs a restart. Where anything has a fault, all
    faults are told, and nothing changes.

    Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    if plugin is None:
        document = _ask("/-/reload", {}, **place)
    else:
        document = _give("reload", plugin, {}, **place)
    tell(document, as_json, *lines_about(document["changes"]))


@click.command("log-level")
@click.argument("plugin", shell_complete=complete_plugin)
@click.argument("level", type=click.Choice([*NUMBERS, "default"]))
@reason_option
@json_option
@place_options
def log_level(plugin: str, level: str, as_json: bool, **place: Any) -> None:
    """Log the lines of a PLUGIN of the running program from a LEVEL on.

    These are the lines of its logger, and Trivet's own about it. The level `default` is that of the
    program. Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    document = _give("log-level", plugin, {"level": level}, **place)
    tell(document, as_json, f"{document['plugin']} logs from {document['level']} on")


def _give(order: str, plugin: str, query: dict[str, object], **place: Any) -> Any:
    """Give an order to a plugin; returns the program's answer."""
    return _ask(f"/-/plugins/{quote(plugin, safe='')}/{order}", query, **place)


def _ask(
    path: str,
    query: dict[str, object],
    *,
    reason: str | None,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
) -> Any:
    """Give an order; returns the program's answer."""
    with RunningProgram(Place(url, token_file, config)) as program:
        return program.ask("POST", path, {**query, "reason": reason})


def tell(document: Any, as_json: bool, *lines: str) -> None:
    """Print the program's answer: as JSON, or by lines for people."""
    if as_json:
        print_json(document)
    else:
        for line in lines:
            click.echo(plain(line))


def lines_about(changes: list[Any]) -> list[str]:
    """The lines that tell what has become of a reload, or of a change of settings."""
    return [*map(_change, changes)] or ["nothing has changed"]


def _change(change: Any) -> str:
    """One thing that a reload has changed, or cannot change, as a line."""
    why = "" if change["reason"] is None else f", since {change['reason']}"
    return f"{change['what']}: {change['result']}{why}"


def _words(status: str) -> str:
    return status.replace("_", " ")
