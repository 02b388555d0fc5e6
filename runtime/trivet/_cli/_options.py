"""The options that several commands have.

Owns their names and descriptions.
Never knows the use that a command makes of them.
"""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The settings' file; ./trivet.toml by default.",
)
