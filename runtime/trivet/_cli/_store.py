"""`trivet store`: the file of durable inboxes, for its operator.

Owns the commands' output and exit codes.
Never knows what is in the file.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from .._faults._errors import ConfigurationError
from .._program._reading import load_settings
from .._program._settings import IN_MEMORY
from ._options import config_option, json_option
from ._printing import print_json


@click.group()
def store() -> None:
    """Look after the file of the durable inboxes."""


@store.command()
@json_option
@config_option
@click.pass_context
def check(ctx: click.Context, as_json: bool, config: Path | None) -> None:
    """Read the whole file, and say what is wrong with it.

    The program that owns the file must not run. The file stays as it is. Exit codes: 0 nothing is
    wrong, 1 something is, 2 there is no such file, 3 a program owns it, or it cannot be read.
    """
    from .._store._check import examine  # noqa: PLC0415 - SQLite, for this command only

    path = _path(config)
    faults: list[str] = []
    for fault in examine(path):
        faults.append(fault)
        if not as_json:
            click.echo(fault)
    if as_json:
        print_json({"file": str(path), "faults": faults})
    elif not faults:
        click.echo(f"{path}: nothing is wrong")
    ctx.exit(1 if faults else 0)


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@config_option
def backup(file: Path, as_json: bool, config: Path | None) -> None:
    """Copy the store into a new FILE, also while the program runs.

    The line that is printed names a moment: every event that was accepted before it is in FILE,
    unless it had ended. A copy of the store's own files is none: they change together.

    Exit codes: 0 the copy is whole, 2 there is no store, 3 it cannot be read, or FILE is there
    already or cannot be written.
    """
    from .._store._copies import back_up  # noqa: PLC0415 - SQLite, for these commands only

    copy = back_up(_path(config), file)
    if as_json:
        print_json({"file": str(file), **attrs.asdict(copy)})
        return
    moment = copy.moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    last = f"; the last has the number {copy.last}" if copy.last else ""
    click.echo(
        f"{file}: every event accepted before {moment}: {copy.stored} were ever stored, "
        f"{copy.waiting} wait{last}; dead letters: {copy.dead_letters}"
    )


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@config_option
def restore(file: Path, as_json: bool, config: Path | None) -> None:
    """Put the backup FILE in the place of the store.

    The program that owns the store must not run. The store that was there is kept under another
    name, which is printed. Events that ended after the backup are delivered again.

    Exit codes: 0 it is done, 2 the store is in memory, 3 a program owns it, or FILE is damaged or
    no backup.
    """
    from .._store._copies import restore as put_back  # noqa: PLC0415 - as above

    path = _configured(config)
    kept = put_back(path, file)
    if as_json:
        print_json({"file": str(path), "kept": None if kept is None else str(kept)})
        return
    was = "there was none before" if kept is None else f"the one before is {kept}"
    click.echo(f"{path}: the store of {file}; {was}")


@store.command()
@json_option
@config_option
def compact(as_json: bool, config: Path | None) -> None:
    """Give the free room in the file back to the disk at once.

    A running program does so bit by bit, and must not run meanwhile. The disk needs room for a
    copy.

    Exit codes: 0 it is done, 2 there is no store, 3 a program owns it, or it is damaged.
    """
    from .._store._copies import compact as vacuum  # noqa: PLC0415 - as above

    path = _path(config)
    before, after = vacuum(path)
    if as_json:
        print_json({"file": str(path), "bytes_before": before, "bytes": after})
        return
    click.echo(f"{path}: {before} bytes before, {after} bytes now")


def _configured(config: Path | None) -> Path:
    """The path in the settings."""
    path = load_settings(config).store.path
    if path == IN_MEMORY:
        raise ConfigurationError(f"{path}: the store is in memory; `[store] path` says where it is")
    return path


def _path(config: Path | None) -> Path:
    """The path in the settings of a file that is there."""
    path = _configured(config)
    if not path.exists():
        raise ConfigurationError(f"{path}: there is no such file; `[store] path` says where it is")
    return path
