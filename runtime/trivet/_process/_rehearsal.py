"""A rehearsal: every plugin is started and stopped in order, as in a program, and none runs.

Owns the decisions that make a start of the program harmless, and the faults that it finds.
Never knows the command line that asked for it. No inbox gets an event, the store is not opened, and
nothing listens, so the program itself may run beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio

from .._faults._advice import in_words
from .._faults._containment import summary, unwrapped
from .._faults._errors import TrivetError, WrongSettingError
from .._faults._masking import forget, mask
from .._program._loader import Program
from .._runtime import Runtime, running
from .._supervision._host import Host


def rehearse(program: Program) -> list[str]:
    """Call `initialize` and `close` of every plugin, within their limits.

    Returns:
        A line for each plugin that could not be made, started or stopped, secrets masked.
    """
    try:
        runtime = Runtime(_lenient(program), runs=False)
    except TrivetError as error:
        return [mask(str(error))]
    try:
        waiting = trio.run(_start_and_stop, runtime)
        return [
            mask(line)
            for name, host in runtime.hosts.items()
            for line in _faults(host, waiting.get(name), program)
        ]
    finally:
        forget(runtime)


def _lenient(program: Program) -> Program:
    """The program with plugins that are tried once each, whatever becomes of the others."""
    plugins = [
        attrs.evolve(
            plugin,
            supervision=attrs.evolve(
                plugin.supervision, critical=False, restart="temporary", on_start_failure="retry"
            ),
        )
        for plugin in program.plugins
    ]
    return attrs.evolve(program, plugins=tuple(plugins))


async def _start_and_stop(runtime: Runtime) -> dict[str, str]:
    """Start and stop the plugins; returns, for each that had to wait, the one that it needs."""
    waiting: dict[str, str] = {}
    with unwrapped():
        async with running(runtime):
            for name, host in runtime.hosts.items():
                if host.waits_for is not None:
                    waiting[name] = host.waits_for.name
    return waiting


def _faults(host: Host, waits_for: str | None, program: Program) -> Iterator[str]:
    failure = host.failure
    if isinstance(failure, WrongSettingError):
        yield failure.at(host.name, program.settings.file)
    elif failure is not None:
        reason = in_words(failure, program.homes[host.name], summary(failure))
        yield f"plugin {host.name!r} did not start: {reason}"
    elif waits_for is not None:
        yield f"plugin {host.name!r} was not started: it needs {waits_for!r}"
    if host.close_failure is not None:
        reason = in_words(host.close_failure, program.homes[host.name], summary(host.close_failure))
        yield f"plugin {host.name!r} did not close: {reason}"
