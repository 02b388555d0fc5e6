"""`trivet settings`: every setting as it holds, or would, and its origin.

Owns the look of the list.
Never knows how an origin is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from .._program._collector import Faults
from .._program._origins import effective_settings
from ._loading import read_program
from ._options import json_option, overrides, program_options
from ._printing import plain, print_json
from ._running import Place, RunningProgram, address_options


@click.command()
@program_options
@json_option
@address_options
def settings(
    plugins: tuple[str, ...],
    config: Path | None,
    directory: Path | None,
    bind: str | None,
    without: tuple[str, ...],
    as_json: bool,
    url: str | None,
    token_file: Path | None,
) -> None:
    """Print every setting as it holds, with its origin: file, overlay, environment and so on.

    The arguments are those of `serve`: the settings are those of a program that would be started
    now. With --url, or TRIVET_URL, they are those of the running program, whose token needs the
    scope `admin`. Secrets are masked.

    Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    given = overrides(plugins, directory, bind, without)
    place = Place(url, token_file, config)
    if not place.is_named:
        found = _of_files(config, given)
    elif any(given.values()):
        raise click.UsageError("the program at --url has its plugins, and addresses, already")
    else:
        with RunningProgram(place) as running:
            found = running.ask("GET", "/-/settings")["settings"]
    for setting in found:
        if as_json:
            print_json(setting)
        else:
            click.echo(_line(setting))


def _of_files(config: Path | None, given: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    """The settings that a program would have."""
    faults = Faults()
    reading, program = read_program(config, given, faults)
    faults.check()
    assert program is not None
    return map(attrs.asdict, effective_settings(reading.settings, program))


def _line(setting: Mapping[str, Any]) -> str:
    value, origin, source = setting["value"], setting["origin"], setting["source"]
    shown = "—" if value is None else json.dumps(value, ensure_ascii=False)
    return plain(
        f"{setting['key']} = {shown}  # {origin if source is None else f'{origin} {source}'}"
    )
