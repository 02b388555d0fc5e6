"""Accidents of a plugin in a test: it crashes, or is cancelled wherever it can be.

Owns the accidents, and what has to hold afterwards.
Never knows what the plugin does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import trio

from .._events._event import Event
from .._events._fates import GOOD
from .._events._outcome import Outcome
from .._faults._errors import TrivetError
from .._faults._frames import Authors, home_of
from .._faults._stacks import calls_of
from .._loop._tasks import owner_of
from .._plugins._instance import internals_of
from .._plugins._plugin import Plugin
from .._plugins._status import Status
from .._runtime import Runtime
from .._supervision._host import Host
from ._leaks import no_leaks
from ._programs import open_plugins

PLACES = 1000
"""Checkpoints at which a plugin is cancelled, at most, so that a test ends."""


class CancellationError(TrivetError):
    """A plugin that was cancelled has lost an event, not closed, or left something behind."""


async def crash(
    runtime: Runtime, plugin: type[Plugin] | str, error: Exception | None = None
) -> None:
    """Let a plugin fail as if its `run` had raised, and wait until it is up again or given up.

    Under `autojump_clock` the pause before its next lifetime takes no time.

    Args:
        runtime: the program.
        plugin: the plugin, by its class or its name.
        error: the failure; a RuntimeError by default.

    Raises:
        PluginNotActiveError: the program has no such plugin.
    """
    host = runtime.host(plugin if isinstance(plugin, str) else runtime.get(plugin).name)
    restarts = host.restarts
    internals_of(host.plugin).fail(error or RuntimeError("the test lets the plugin crash"))
    while not (host.restarts > restarts and host.is_up) and host.status is not Status.FAILED:
        await host.changed()


Given = Event | Callable[[Runtime], Event]
"""An event, or a function that makes it in the program that is to handle it."""


async def cancel_everywhere(
    plugin: type[Plugin] | str,
    *events: Given,
    settings: Mapping[str, Any] | None = None,
    **program: Any,
) -> int:
    """Cancel a plugin at each of its checkpoints in turn, each time in a program of its own.

    The plugin's lifetime is ended while a task of it waits, and begins anew: at the first
    checkpoint after the events were published, then at the second, and so on. Each time, the events
    have to be handled in the end, the plugin has to close without a failure, and nothing may be
    left behind. A handler that has done half of its work is called again, as after a crash.

    Take the fixture `autojump_clock`, so that limits and pauses take no time.

    Args:
        plugin: the plugin, by its class, or by the name of its file in the `directory` among the
            further arguments.
        events: the events that it has to handle. An event of a class in such a file is given as a
            function: `lambda runtime: runtime.events["order_placed"].example()`.
        settings: its table `[plugins.NAME]`.
        program: further arguments for `open_plugins`.

    Returns:
        The number of checkpoints.

    Raises:
        CancellationError: something did not hold; the checkpoint is named by file and line.
        LeakError: tasks, threads, files or sockets are left behind.
    """
    name = plugin if isinstance(plugin, str) else plugin.name
    program["settings"] = {name: dict(settings or {})}
    for number in range(PLACES):
        if not await _cancel_at(number, name, events, partial(open_plugins, plugin, **program)):
            return number
    raise CancellationError(f"plugin {name!r} has more than {PLACES} checkpoints")


async def _cancel_at(
    number: int,
    plugin: str,
    events: tuple[Given, ...],
    opened: Callable[[], AbstractAsyncContextManager[Runtime]],
) -> str:
    """Cancel the plugin at its checkpoint of this number, from 0 on.

    Returns:
        The checkpoint's place; empty if there is none.
    """
    outcomes: list[Outcome] = []
    with no_leaks():
        async with opened() as runtime:
            host = runtime.host(plugin)
            cutter = _Cutter(host, number)
            trio.lowlevel.add_instrument(cutter)

            async def publish(event: Event) -> None:
                outcomes.append(await runtime.publish(event, wait=True))

            try:
                async with trio.open_nursery() as nursery:
                    for event in events:
                        made = event if isinstance(event, Event) else event(runtime)
                        nursery.start_soon(publish, made)
            finally:
                trio.lowlevel.remove_instrument(cutter)
            fault = _fault(outcomes, plugin)
        if fault is None and host.close_failure is not None:
            fault = f"it did not close: {host.close_failure!r}"
    if fault is not None and cutter.place:
        raise CancellationError(f"{plugin!r}, cancelled at {cutter.place}: {fault}")
    if fault is not None:
        raise CancellationError(f"{plugin!r}, without a cancellation: {fault}")
    return cutter.place


def _fault(outcomes: list[Outcome], plugin: str) -> str | None:
    """The fault of the first event that has not been handled."""
    for outcome in outcomes:
        fate = outcome.fates.get(plugin)
        if fate not in GOOD:
            said = "does not reach it" if fate is None else f"is {fate.value}"
            error = outcome.errors.get(plugin)
            return f"{outcome.event!r} {said}" + (f": {error!r}" if error else "")
    return None


class _Cutter(trio.abc.Instrument):
    """Ends the plugin's lifetime when a task of it waits for the nth time.

    A worker that waits for its next event is not counted: it is Trivet's own.
    """

    def __init__(self, host: Host, number: int) -> None:
        self._host = host
        self._authors = Authors(home_of(type(host.plugin).__module__))
        self._left = number + 1
        self.place = ""
        """The file and the line of the checkpoint; empty before it is reached."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.place or owner_of(task) != self._host.name:
            return
        calls = [*calls_of(task)]
        if not any(self._authors.has(frame) for frame, _ in calls):
            return
        self._left -= 1
        if self._left == 0:
            self.place = self._authors.place(calls)
            self._host.end_lifetime()
