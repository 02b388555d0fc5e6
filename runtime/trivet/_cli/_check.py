"""`trivet check`: every fault of a program at once, before it is served.

Owns the message and the exit code.
Never knows how anything is checked, except the plugins' starts, which `_rehearsal` tries.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from .._faults._errors import ConfigurationError
from .._faults._masking import mask
from .._plugins._routes import routes_of
from .._program._collector import Faults
from .._program._loader import Program
from ._installation import check_files, check_versions
from ._loading import read_program
from ._options import json_option, overrides, program_options
from ._printing import print_json
from ._strict import findings, refuse_without_library


@click.command()
@program_options
@click.option(
    "--connect",
    is_flag=True,
    help="Call initialize() and close() of each plugin, too, in order and within their limits. No "
    "event is delivered, no route is served, and run() is not called.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Apply the rules of flake8-async to the files of the plugins, too: blocking calls, lost "
    "cancellation, and the like. It needs the extra `strict`.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    plugins: tuple[str, ...],
    config: Path | None,
    directory: Path | None,
    bind: str | None,
    without: tuple[str, ...],
    connect: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Find every fault of the settings, plugins, routes, permissions and versions.

    The arguments are those of `serve`; the program may run meanwhile.

    Exit codes: 0 no fault, 2 faults, also of plugins that do not start or close, and what --strict
    has found.
    """
    if strict:
        refuse_without_library()
    faults = Faults()
    _, program = read_program(config, overrides(plugins, directory, bind, without), faults)
    check_versions(faults)
    if program is not None:
        check_files(program, faults)
    lines = faults.lines
    if connect and program is not None and not faults:
        from .._process._rehearsal import rehearse  # noqa: PLC0415 - it imports the server

        with redirect_stdout(sys.stderr):  # Standard output is the command's.
            lines = rehearse(program)
    if strict:
        lines += findings()
    lines = [mask(line) for line in lines]
    if as_json:
        print_json({"faults": lines, **_content(program)}, indent=2)
    else:
        for line in lines:
            click.echo(f"trivet: {line}", err=True)
        click.echo(_summary(len(lines), program))
    ctx.exit(ConfigurationError.exit_code if lines else 0)


def _content(program: Program | None) -> dict[str, object]:
    """The parts of a program without a fault."""
    if program is None:
        return {"plugins": [], "routes": [], "events": []}
    return {
        "plugins": [plugin.name for plugin in program.plugins],
        "routes": [
            {
                "plugin": plugin.name,
                "path": route.path,
                "methods": ["websocket"] if route.is_websocket else list(route.methods),
                "scope": route.scope or "public",
            }
            for plugin in program.plugins
            for route in routes_of(plugin.cls)
        ],
        "events": sorted(program.events),
    }


def _summary(faults: int, program: Program | None) -> str:
    if faults:
        return "1 fault" if faults == 1 else f"{faults} faults"
    assert program is not None
    names = ", ".join(plugin.name for plugin in program.plugins) or "no plugin is active"
    return f"no fault: {names}"
