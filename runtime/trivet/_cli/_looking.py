"""`trivet plugins`, `events`, `tasks`, `stalls`, `diagnostics`: what an operator sees of a program.

Owns the look of these tables.
Never knows how a program finds out what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from ._options import complete_plugin, json_option
from ._printing import Row, print_json, print_table
from ._running import Place, RunningProgram, place_options


@click.command()
@click.argument("plugin", required=False, metavar="[PLUGIN]", shell_complete=complete_plugin)
@json_option
@place_options
def plugins(
    plugin: str | None,
    as_json: bool,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
) -> None:
    """List the plugins of the running program, or print all about one PLUGIN as JSON.

    Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    with RunningProgram(Place(url, token_file, config)) as program:
        if plugin is not None:
            print_json(program.ask("GET", f"/-/plugins/{quote(plugin, safe='')}"), indent=2)
            return
        document = program.ask("GET", "/-/plugins")
    if as_json:
        print_json(document, indent=2)
    else:
        print_table([("PLUGIN", "STATUS", "SINCE", "RESTARTS", "ERROR"), *_plugins(document)])


def _plugins(document: Any) -> Iterator[Row]:
    for name, each in sorted(document["plugins"].items()):
        status = each["status"] + (", paused" if each["paused"] else "")
        since = f"{each['since'][:19]}Z"
        yield name, status, since, str(each["restarts"]), each["error"] or ""


@click.command()
@json_option
@place_options
def events(as_json: bool, url: str | None, token_file: Path | None, config: Path | None) -> None:
    """List the event types of the running program, and the plugins that listen to each.

    UNROUTED is the number of events that no plugin listened to; OUTSIDE says whether clients and
    brokers may publish the type. Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no
    program answers.
    """
    with RunningProgram(Place(url, token_file, config)) as program:
        document = program.ask("GET", "/-/events")
    if as_json:
        print_json(document, indent=2)
    else:
        print_table([("EVENT", "OUTSIDE", "UNROUTED", "LISTENERS"), *_events(document)])


def _events(document: Any) -> Iterator[Row]:
    for name, each in sorted(document["events"].items()):
        durable = {*each["durable"]}
        listeners = [f"{who} (durable)" if who in durable else who for who in each["listeners"]]
        outside = "yes" if each["from_outside"] else "no"
        yield name, outside, str(each["unrouted"]), ", ".join(listeners)


@click.command()
@click.argument("plugin", required=False, metavar="[PLUGIN]", shell_complete=complete_plugin)
@json_option
@place_options
def tasks(
    plugin: str | None,
    as_json: bool,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
) -> None:
    """List the live tasks of the running program, or those of one PLUGIN, as a tree.

    A line has the task's age, its name, and the line at which it stands. Exit codes: 0 done,
    1 refused, 2 usage or configuration, 3 no program answers.
    """
    with RunningProgram(Place(url, token_file, config)) as program:
        document = program.ask("GET", "/-/tasks", {"plugin": plugin})
    if as_json:
        print_json(document, indent=2)
    else:
        print_table([("TASK", "AGE", "ENDS", "STANDS AT"), *_tasks(document)])


def _tasks(document: Any) -> Iterator[Row]:
    yield f"process {document['pid']}", "", "", ""
    for name, found in sorted(document["plugins"].items()):
        yield f"  {name}: {found['count']}", "", "", ""
        for task in found["tasks"]:
            indent = "  " * (task["depth"] + 2)
            yield f"{indent}{task['name']}", _age(task["age"]), _end(task), task["at"]


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _end(task: Any) -> str:
    if task["cancelled"]:
        return "cancelled"
    return "" if task["deadline"] is None else f"in {task['deadline']:.1f} s"


@click.command()
@click.argument("number", required=False, metavar="[NUMBER]", type=click.IntRange(1))
@json_option
@place_options
def stalls(
    number: int | None,
    as_json: bool,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
) -> None:
    """List the last stalls of the running program, or print the profile of the one with NUMBER.

    A plugin that holds the event loop for too long stalls all others. The profile is JSON in the
    file format of https://www.speedscope.app, which draws it. Exit codes: 0 done, 1 refused,
    2 usage or configuration, 3 no program answers.
    """
    with RunningProgram(Place(url, token_file, config)) as program:
        if number is not None:
            print_json(program.ask("GET", f"/-/stalls/{number}"))
            return
        document = program.ask("GET", "/-/stalls")
    if as_json:
        print_json(document, indent=2)
    else:
        print_table([("NUMBER", "PLUGIN", "BEGAN", "HELD", "DOING", "AT"), *_stalls(document)])


def _stalls(document: Any) -> Iterator[Row]:
    for each in document["stalls"]:
        held, began = f"{each['seconds']:.3g} s", f"{each['began'][:19]}Z"
        yield str(each["number"]), each["plugin"], began, held, each["doing"], each["at"]


@click.command()
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="The file; by default standard output."
)
@place_options
def diagnostics(
    output: Path | None, url: str | None, token_file: Path | None, config: Path | None
) -> None:
    """Print an account of the running program as JSON, to attach to the report of a fault.

    It has versions, settings, plugins with their last errors, event types, tasks and counters.
    Secrets are masked, and no event's payload is in it; read it all the same before it leaves the
    house. Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    with RunningProgram(Place(url, token_file, config)) as program:
        document = program.ask("GET", "/-/diagnostics")
    if output is None:
        print_json(document, indent=2)
        return
    with output.open("wb") as file:
        print_json(document, indent=2, file=file)
