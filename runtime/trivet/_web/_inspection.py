"""The inside of a running program, for its operator: event types, live tasks, diagnostics.

Owns the form of these documents.
Never knows who may read them. Secrets are masked in all of it.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from time import perf_counter
from typing import Any, cast

import attrs
import msgspec
import trio

from .._events._delivery import utc_now
from .._loop._task_list import LiveTasks, live_tasks
from .._program._origins import as_json, program_settings
from .._runtime import Runtime
from ._admin import one_thread
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._plugin_details import describe_all, describe_slowly
from ._probes import describe_log, describe_store

_NAME = re.compile(r"[\w.-]+")
BESIDES = ("trivet", "quart", "trio-asyncio")
"""Distributions whose versions a report says besides those that Trivet requires."""


def add_inspection(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `/-/events`, `/-/tasks` and `/-/diagnostics`, for an operator."""

    async def events(_: EndpointRequest) -> EndpointResponse:
        """Every event type: the plugins that listen to it, and the events that found none."""
        return {"events": describe_events(runtime)}, 200

    async def tasks(request: EndpointRequest) -> EndpointResponse:
        """Every live task, by plugin: its name, its age, and where it stands.

        A plugin with many tasks has the first of them here, and the `count` of all.
        """
        return {
            "pid": os.getpid(),
            "count": trio.lowlevel.current_statistics().tasks_living,
            "plugins": describe_tasks(runtime, request.query("plugin")),
        }, 200

    async def diagnostics(_: EndpointRequest) -> EndpointResponse:
        """An account of the program for a report of a fault, in which secrets are masked.

        No event's payload is in it.
        """
        known = _known(runtime)
        work = partial(_diagnose, runtime, known)
        return await trio.to_thread.run_sync(work, limiter=one_thread), 200

    fast_path.add("GET", "/-/events", "admin", events)
    fast_path.add("GET", "/-/tasks", "admin", tasks)
    fast_path.add("GET", "/-/diagnostics", "admin", diagnostics)


def describe_events(runtime: Runtime) -> Mapping[str, object]:
    """Each event type by its name."""
    unrouted, durable = runtime.unrouted, runtime.durable
    listeners: dict[str, list[str]] = {name: [] for name in runtime.events}
    for checked in runtime.program.plugins:
        for event in checked.listens_to:
            listeners[event.__event_name__].append(checked.name)
    types = {name: runtime.events[name] for name in sorted(runtime.events)}
    return {
        name: {
            "class": f"{event.__module__}.{event.__qualname__}",
            "from_outside": runtime.events.is_open(event),
            "listeners": listeners[name],
            "durable": sorted(durable & {*listeners[name]}),
            "unrouted": unrouted.get(name, 0),
        }
        for name, event in types.items()
    }


def describe_tasks(runtime: Runtime, plugin: str | None = None) -> Mapping[str, object]:
    """The live tasks by plugin; those of one plugin only, and of the others the number."""
    return {name: attrs.asdict(found) for name, found in _tasks(runtime, plugin).items()}


def _tasks(runtime: Runtime, plugin: str | None = None) -> Mapping[str, LiveTasks]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    started = {} if runtime.meter is None else runtime.meter.started
    return live_tasks(root, runtime.program.homes, started, perf_counter(), plugin)


def _known(runtime: Runtime) -> dict[str, object]:
    """The parts that only the event loop's thread may read."""
    return {
        "service": runtime.service,
        "written_at": utc_now(),
        "stopping": runtime.stopping.is_set(),
        "plugins": describe_all(runtime),
        "events": describe_events(runtime),
        "tasks": describe_tasks(runtime),
        "store": describe_store(runtime),
        "log": describe_log(),
        "earlier_deaths": runtime.earlier_deaths,
        "usage": {name: attrs.asdict(usage) for name, usage in runtime.usage().items()},
    }


def _diagnose(runtime: Runtime, known: dict[str, object]) -> object:
    """The whole account, each text masked once more; reads files, and takes its time."""
    plugins = cast("dict[str, dict[str, object]]", known["plugins"])
    for name, host in list(runtime.hosts.items()):
        plugins[name] |= describe_slowly(runtime, host)
    settings = dict(program_settings(runtime.program.settings))
    document = {**known, "settings": settings, "versions": _versions(), "machine": _machine()}
    return as_json(msgspec.to_builtins(document))


def _versions() -> dict[str, str]:
    """The versions of Python, of Trivet, and of the libraries that it requires."""
    found = {"python": sys.version}
    required = (_NAME.match(line) for line in requires("trivet") or [])
    for name in sorted({*BESIDES, *(match[0] for match in required if match)}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, Any]:
    return {"platform": platform.platform(), "processors": os.cpu_count(), "pid": os.getpid()}
