"""The kit for testing plugins.

Owns the opening of a small program around the plugins under test.
Never knows what is private in Trivet: it does what any embedder can do.

Under pytest-trio's `autojump_clock` time passes by itself, so a test of a plugin that waits for
an hour takes no time; not so for tests that talk to real sockets, threads or processes. The
test itself has to take that fixture as an argument.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from quart.typing import TestClientProtocol

from trivet import (
    Event,
    Plugin,
    Runtime,
    Settings,
    StallSettings,
    StoreSettings,
    create_app,
    listening,
    open_runtime,
)


@asynccontextmanager
async def open_plugins(
    *plugins: type[Plugin] | str,
    directory: Path | str = "plugins",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    event_types: Iterable[type[Event]] = (),
    **program: Any,
) -> AsyncGenerator[Runtime]:
    """Run plugins as a program would, without a file of settings.

    Args:
        plugins: classes, or names of files in `directory`.
        directory: the drop-in directory that file names refer to.
        settings: by the plugin's name, what would stand in `[plugins.NAME]`.
        event_types: types to register besides those that the plugins bring.
        program: further fields of `Settings`, such as `service`. The event loop is not watched
            for stalls here, unless `stalls` says so: a debugger holds it as long as it likes. The
            store of durable inboxes is in memory, unless `store` says so.

    Raises:
        ConfigurationError: for plugins or settings that a program would refuse.
        StartError: when a plugin does not start.
    """
    program.setdefault("stalls", StallSettings(enabled=False))
    program.setdefault("store", StoreSettings(path=Path(":memory:")))
    all_settings = Settings(
        active_plugins=[plugin for plugin in plugins if isinstance(plugin, str)],
        plugins_directory=Path(directory),
        plugins={name: dict(values) for name, values in (settings or {}).items()},
        **program,
    )
    classes = [plugin for plugin in plugins if not isinstance(plugin, str)]
    async with open_runtime(all_settings, plugins=classes, event_types=event_types) as runtime:
        yield runtime


def client(runtime: Runtime) -> TestClientProtocol:
    """A client that asks the runtime's HTTP application without a socket."""
    return create_app(runtime).test_client()


@asynccontextmanager
async def serving(runtime: Runtime) -> AsyncGenerator[str]:
    """Serve the runtime over HTTP on a free port of 127.0.0.1; yields its URL.

    Leaving the block begins the runtime's stop.
    """
    async with listening(runtime, "127.0.0.1:0") as urls:
        yield urls[0]
