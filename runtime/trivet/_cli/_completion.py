"""`trivet completion`: the script with which a shell completes commands, options and plugins.

Owns the choice of shells.
Never knows what is completed: click asks the commands.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes `trivet` in a SHELL.

    For bash, write `eval "$(trivet completion bash)"` into ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "trivet", "_TRIVET_COMPLETE").source())
