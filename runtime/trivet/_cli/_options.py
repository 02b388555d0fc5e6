"""The options that several commands have.

Owns how they are spelt and described.
Never knows what a command does with them.
"""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="The settings; ./trivet.toml otherwise."
)
