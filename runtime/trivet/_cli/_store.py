"""`trivet store`: the file of durable inboxes, for its operator.

Owns the commands' output and exit codes.
Never knows what is in the file.
"""

from __future__ import annotations

from pathlib import Path

import click

from .._faults._errors import ConfigurationError
from .._program._reading import load_settings
from .._program._settings import IN_MEMORY
from ._options import config_option


@click.group()
def store() -> None:
    """Look after the file of the durable inboxes."""


@store.command()
@config_option
@click.pass_context
def check(ctx: click.Context, config: Path | None) -> None:
    """Read the whole file, and say what is wrong with it.

    The program that owns the file must not run. The file stays as it is. Exit codes: 0 nothing is
    wrong, 1 something is, 2 there is no such file, 3 a program owns it, or it cannot be read.
    """
    from .._store._check import examine  # noqa: PLC0415 - SQLite, for this command only

    path = load_settings(config).store.path
    if path == IN_MEMORY or not path.exists():
        raise ConfigurationError(f"{path}: there is no such file; `[store] path` says where it is")
    faults = 0
    for fault in examine(path):
        faults += 1
        click.echo(fault)
    if faults:
        ctx.exit(1)
    click.echo(f"{path}: nothing is wrong")
