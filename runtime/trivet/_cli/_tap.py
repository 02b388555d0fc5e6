"""`trivet tap`: the events of a running program, as they pass.

Owns the arguments, and the look of a line.
Never knows which events pass: the running program says so, and what it does not show.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .._faults._errors import TrivetError, nearest
from ._options import json_option
from ._printing import plain, print_json
from ._running import Place, RefusedError, RunningProgram, place_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FACTS = ("id", "key", "attempt", "error", "retry_in", "request_id", "trace", "payload")
"""The facts of a line after the first words, in their order."""


def _complete_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The event types and the plugins of the running program, for a shell."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell needs it

    given = ctx.params
    try:
        place = Place(given.get("url"), given.get("token_file"), given.get("config"))
        with RunningProgram(place) as program:
            names = {*_events(program), *_plugins(program)}
    except TrivetError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, metavar="[EVENT|PLUGIN]", shell_complete=_complete_name)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only events whose payload has this value; a path leads into it, as in events.face=1. May "
    "be repeated: of one field any value, of several fields all.",
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="A share of the events, as in 0.01; chosen by their ids.",
)
@click.option("--payload", "with_payload", is_flag=True, help="With payloads, secrets masked.")
@json_option
@place_options
def tap(
    name: str | None,
    filters: tuple[str, ...],
    sample: float | None,
    with_payload: bool,
    as_json: bool,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
) -> None:
    """Show the events of the running program as they are published, until Ctrl-C.

    With EVENT, those of one type. With PLUGIN, the end of each attempt of the plugin: when, and
    what has become of the event. A tap has a bound on what it costs the program: it tells how many
    events it has not shown. With --json each line is a document.

    Exit codes: 0 ended, also by Ctrl-C, the program's stop, or a reader such as head that has seen
    enough, 1 refused, 2 usage or configuration, 3 no program answers, or it is gone.
    """
    query: dict[str, object] = {
        "filter": list(filters) or None,
        "sample": sample,
        "payload": "true" if with_payload else None,
    }
    try:
        with RunningProgram(Place(url, token_file, config)) as program:
            if name is not None:
                query[_kind(program, name)] = name
            for kind, document in program.events("/-/tap", query, last=["end"]):
                if kind in TO_STANDARD_ERROR:
                    click.echo(plain(TO_STANDARD_ERROR[kind](document)), err=True)
                elif as_json:
                    print_json(document if kind == "event" else {"not_shown": document["count"]})
                else:
                    click.echo(plain(_line(document) if kind == "event" else _missed(document)))
    except KeyboardInterrupt:
        return


def _events(program: RunningProgram) -> Any:
    return program.ask("GET", "/-/events")["events"]


def _plugins(program: RunningProgram) -> Any:
    return program.ask("GET", "/-/plugins")["plugins"]


def _kind(program: RunningProgram, name: str) -> str:
    """Whether a name is an event type's or a plugin's; it is a plugin's where it is both."""
    plugins = _plugins(program)
    if name in plugins:
        return "plugin"
    events = _events(program)
    if name in events:
        return "event"
    said = f"no event type and no plugin is named {name!r}; {nearest(name, {*events, *plugins})}"
    raise RefusedError(said)


def _opened(document: dict[str, Any]) -> str:
    what = " at ".join(each for each in (document["event"], document["plugin"]) if each)
    return f"tapping {what or 'all events'}; Ctrl-C ends it"


def _ended(document: dict[str, Any]) -> str:
    return f"the tap has ended: {document['reason']}"


TO_STANDARD_ERROR: dict[str, Callable[[dict[str, Any]], str]] = {"open": _opened, "end": _ended}
"""The news of the tap itself, beside the events."""


def _missed(document: dict[str, Any]) -> str:
    return f"{document['count']} not shown: more came than a tap may cost the program"


def _line(document: dict[str, Any]) -> str:
    """An event as a line: the moment, its fate or nothing, its type, and its facts.

    The moment is that of the attempt's end where there is a fate, and else that of the event.

    >>> paid = {"time": "2026-03-01T12:00:00.123456Z", "type": "paid", "id": "1", "attempt": 1}
    >>> _line(paid)
    '12:00:00.123  paid  id=1 attempt=1'
    >>> _line({**paid, "fate": "handled", "at": "2026-03-01T12:00:07.250000Z"})
    '12:00:07.250  handled  paid  id=1 attempt=1'
    """
    moment = document.get("at", document["time"])
    words = [moment[11:23], document.get("fate"), document["type"]]
    facts = {**document, "trace": document.get("traceparent", "")[3:35] or None}
    told = [f"{name}={_text(facts[name])}" for name in FACTS if facts.get(name) is not None]
    if "payload_left_out" in document:
        told.append(f"(payload: {document['payload_left_out']})")
    return "  ".join([*(word for word in words if word), " ".join(told)])


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
