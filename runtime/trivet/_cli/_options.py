"""The options that several commands have, and the settings that they mean.

Owns their names, descriptions and completions.
Never knows the use that a command makes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .._faults._errors import ConfigurationError
from .._program._reading import load_settings

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The settings' file; ./trivet.toml by default.",
)
reason_option = click.option(
    "--reason", metavar="TEXT", help="Why: for the log and the operator_action_event."
)
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")


def complete_plugin(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names that `active_plugins` may have, for a shell."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell needs it

    from .._program._finder import Finder  # noqa: PLC0415

    given = ctx.params
    try:
        settings = load_settings(given.get("config"), plugins_directory=given.get("directory"))
    except ConfigurationError:
        return []
    names = sorted(Finder(settings.plugins_directory).available())
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def program_options(command: F) -> F:
    """Give a command the arguments that say which program is meant; `overrides` reads them."""
    for option in (
        click.option(
            "--bind",
            metavar="ADDRESS",
            help="The address to listen at, or several, with commas between: HOST:PORT, where port "
            "0 is any free port, unix:/PATH, or systemd.",
        ),
        click.option(
            "--plugins",
            "directory",
            type=click.Path(path_type=Path),
            help="The directory of the plugins' files.",
        ),
        click.option(
            "--without",
            multiple=True,
            metavar="PLUGIN",
            shell_complete=complete_plugin,
            help="Leave an active plugin out, or all of a file's; may be repeated.",
        ),
        config_option,
        click.argument("plugins", nargs=-1, metavar="[PLUGIN]...", shell_complete=complete_plugin),
    ):
        command = option(command)
    return command


def overrides(
    plugins: tuple[str, ...],
    directory: Path | None,
    bind: str | None,
    without: tuple[str, ...],
) -> dict[str, object]:
    """The settings that the command line gives, by the settings' names; None for one not given."""
    return {
        "active_plugins": list(plugins) or None,
        "plugins_directory": directory,
        "bind": bind,
        "left_out": without or None,
    }
