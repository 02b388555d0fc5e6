"""The command `trivet`.

Owns the commands' arguments, and the message and exit code of an error.
Never knows how a service runs.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from .._faults._errors import TrivetError
from .._faults._masking import mask
from .._program._garbage import garbage_collector_paused
from .._program._reading import load_settings, read_settings
from ._options import overrides, program_options

_ELSEWHERE = {
    "check": "_check",
    "completion": "_completion",
    "dead-letters": "_dead_letters",
    "demo": "_demo",
    "diagnostics": "_looking",
    "disable": "_orders",
    "enable": "_orders",
    "events": "_looking",
    "log-level": "_orders",
    "new": "_new",
    "pause": "_orders",
    "plugins": "_looking",
    "publish": "_publishing",
    "reload": "_orders",
    "restart": "_orders",
    "resume": "_orders",
    "schema": "_schema",
    "set": "_changing",
    "settings": "_settings",
    "stalls": "_looking",
    "store": "_store",
    "tap": "_tap",
    "tasks": "_looking",
    "top": "_top",
    "unset": "_changing",
}
"""Commands, and the modules that have them."""
_NAMES = {"set": "set_settings", "unset": "unset_settings"}
"""The functions of commands whose names are Python's, too."""
SHOWING = {
    "completion",
    "dead-letters",
    "diagnostics",
    "events",
    "plugins",
    "schema",
    "settings",
    "stalls",
    "tap",
    "tasks",
    "top",
}
"""Commands whose exit code is settled before they print; of others, such as `check`, it is not."""


class _Commands(click.Group):
    """Commands that import their libraries when they are called, so that no other waits."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module = import_module(f".{_ELSEWHERE[cmd_name]}", __name__)
        name = _NAMES.get(cmd_name, cmd_name.replace("-", "_"))
        command: click.Command = getattr(module, name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TrivetError as error:
            for line in mask(str(error)).splitlines():
                click.echo(f"trivet: {line}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            if ctx.invoked_subcommand not in SHOWING:
                raise
            ctx.exit(0)  # As by Ctrl-C: `head` has seen enough.


@click.group(cls=_Commands)
@click.version_option(package_name="trivet")
def main() -> None:
    """A plugin runtime with structured concurrency on Trio."""


@main.command()
@program_options
@click.option("--no-parent", is_flag=True, help="Without the parent process: for a debugger.")
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="For development: start anew, at once, when a plugin's file or the settings change.",
)
@click.pass_context
def serve(
    ctx: click.Context,
    plugins: tuple[str, ...],
    config: Path | None,
    directory: Path | None,
    bind: str | None,
    without: tuple[str, ...],
    no_parent: bool,
    reloads: bool,
) -> None:
    """Run the service, with these PLUGINs instead of the settings' `active_plugins`.

    Exit codes: 0 clean, 2 usage or configuration, 3 start-up failed, 4 a critical plugin was
    given up, 70, 71, 72 and 137 the stop overran its limits.
    """
    with garbage_collector_paused():
        from .._process._serve import run  # noqa: PLC0415 - see above

        given = overrides(plugins, directory, bind, without)
        settings = load_settings(config, None, **given)
        settings.find_modules()
        if reloads:
            _check_reload(no_parent=no_parent)
        read = partial(read_settings, config, None, given)
        ctx.exit(run(settings, read, with_parent=not no_parent, reloads=reloads))


def _check_reload(*, no_parent: bool) -> None:
    if no_parent:
        raise click.UsageError("--reload needs the parent process, which --no-parent leaves out")
    from .._process._changes import refuse_without_library  # noqa: PLC0415 - for development

    refuse_without_library()
