"""`trivet publish`: an event, or one on each line, from a file or standard input.

Owns the arguments, and the exit code.
Never knows event types: the running program checks what it gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

import click

from .._faults._errors import TrivetError
from ._options import json_option
from ._printing import plain, print_json
from ._running import Place, RunningProgram, place_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

CHUNK = 64 * 1024
"""Bytes that are read at a time."""


def _complete_event(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The event types of the running program, for a shell; none if it does not answer."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell needs it

    given = ctx.params
    try:
        place = Place(given.get("url"), given.get("token_file"), given.get("config"))
        with RunningProgram(place) as program:
            names = program.ask("GET", "/-/events")["events"]
    except TrivetError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@click.argument("event", shell_complete=_complete_event)
@click.argument("file", type=click.File("rb"), default="-", metavar="[FILE|-]")
@click.option("--lines", is_flag=True, help="One event a line, any number of them.")
@click.option("--wait", is_flag=True, help="Wait until the handlers are done, 30 s at most.")
@json_option
@place_options
def publish(
    event: str,
    file: IO[bytes],
    lines: bool,
    wait: bool,
    as_json: bool,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
) -> None:
    """Publish an EVENT at the running program, with the JSON in FILE or standard input.

    The token needs the scope `ingest`. Exit codes: 0 accepted, or handled with --wait, 1 refused,
    2 usage or configuration, 3 no program answers.
    """
    media_type = "application/x-ndjson" if lines else "application/json"
    content = _chunks(file) if lines else file.read()
    query = {"wait": "true" if wait else None}
    with RunningProgram(Place(url, token_file, config), for_management=False) as program:
        path = f"/events/{quote(event, safe='')}"
        document = program.ask("POST", path, query, content, media_type)
    if as_json or lines:
        print_json(document)
    else:
        fates = ", ".join(f"{name} {fate}" for name, fate in document["fates"].items())
        click.echo(plain(f"{document['id']}: {fates or 'no plugin listens to it'}"))


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
