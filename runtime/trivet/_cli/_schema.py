"""`trivet schema`: JSON Schemas of the settings and of event types.

Owns the choice between them.
Never knows how a schema is made.
"""

from __future__ import annotations

from pathlib import Path

import click

from .._faults._errors import nearest
from .._program._collector import Faults
from .._program._json_schema import event_schema, settings_schema
from ._loading import read_program
from ._options import config_option
from ._printing import print_json


@click.command()
@click.argument("event", required=False, metavar="[EVENT]")
@click.option("--events", "all_events", is_flag=True, help="One document with all event types.")
@config_option
def schema(event: str | None, all_events: bool, config: Path | None) -> None:
    """Print the JSON Schema of the settings, or of an EVENT's payload.

    The schema of the settings has those of the active plugins. An editor checks trivet.toml with
    it: write `#:schema trivet.schema.json` into the file's first line.
    """
    faults = Faults()
    _, program = read_program(config, {}, faults)
    faults.check()
    assert program is not None
    if event is not None and all_events:
        raise click.UsageError("name an EVENT, or give --events")
    if all_events:
        document = {name: event_schema(program.events[name]) for name in sorted(program.events)}
    elif event is None:
        document = settings_schema(program)
    elif event in program.events:
        document = event_schema(program.events[event])
    else:
        raise click.UsageError(f"no event is named {event!r}: {nearest(event, program.events)}")
    print_json(document, indent=2)
