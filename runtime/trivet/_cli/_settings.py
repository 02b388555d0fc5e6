"""`trivet settings`: every setting as it holds, and its origin.

Owns the look of the list.
Never knows how an origin is found.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from .._program._collector import Faults
from .._program._origins import EffectiveSetting, effective_settings
from ._loading import read_program
from ._options import json_option, overrides, program_options
from ._printing import plain, print_json


@click.command()
@program_options
@json_option
def settings(
    plugins: tuple[str, ...],
    config: Path | None,
    directory: Path | None,
    bind: str | None,
    without: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print every setting as it holds, with its origin: file, environment, command line, default.

    The arguments are those of `serve`. Secrets are masked.
    """
    faults = Faults()
    given = overrides(plugins, directory, bind, without)
    reading, program = read_program(config, given, faults)
    faults.check()
    assert program is not None
    for setting in effective_settings(reading.settings, program):
        if as_json:
            print_json(
                {
                    "key": setting.key,
                    "value": setting.value,
                    "origin": setting.origin,
                    "source": setting.source,
                }
            )
        else:
            click.echo(_line(setting))


def _line(setting: EffectiveSetting) -> str:
    value = "—" if setting.value is None else json.dumps(setting.value, ensure_ascii=False)
    origin = setting.origin if setting.source is None else f"{setting.origin} {setting.source}"
    return plain(f"{setting.key} = {value}  # {origin}")
