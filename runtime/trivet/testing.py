"""The kit for testing plugins.

Owns the opening of a small program around the plugins under test.
Never knows what is private in Trivet: it does what any embedder can do.

Under pytest-trio's `autojump_clock` time passes by itself, so a test of a plugin that waits for
an hour takes no time; not so for tests that talk to real sockets, threads or processes. The
test itself has to take that fixture as an argument.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
from quart.typing import TestClientProtocol
from trio.testing import MockClock

from trivet import (
    Delivery,
    Event,
    Plugin,
    Runtime,
    Settings,
    StallSettings,
    StoreSettings,
    TrivetError,
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
    patience: float = 1.0,
    **program: Any,
) -> AsyncGenerator[Runtime]:
    """Run plugins as a program would, without a file of settings.

    Args:
        plugins: classes, or names of files in `directory`.
        directory: the drop-in directory that file names refer to.
        settings: by the plugin's name, what would stand in `[plugins.NAME]`.
        event_types: types to register besides those that the plugins bring.
        patience: seconds of real time that an event may wait to be tried again. Under
            `autojump_clock` it may wait as long as it likes.
        program: further fields of `Settings`, such as `service`. The event loop is not watched
            for stalls here, unless `stalls` says so: a debugger holds it as long as it likes. The
            store of durable inboxes is in memory, unless `store` says so.

    Raises:
        ConfigurationError: for plugins or settings that a program would refuse.
        StartError: when a plugin does not start.
        SlowRetryError: a handler failed, and the next attempt is not to come within `patience`.
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
        with _impatient(runtime, patience):
            yield runtime


class SlowRetryError(TrivetError):
    """A test would wait in real time for an event to be tried again."""


@contextmanager
def _impatient(runtime: Runtime, patience: float) -> Generator[None]:
    """Cancel the block when an event is to be tried again late, and raise what its handler did."""
    if isinstance(trio.lowlevel.current_clock(), MockClock):
        yield
        return
    failures: list[tuple[SlowRetryError, Exception]] = []
    with trio.CancelScope() as scope:

        def told(plugin: str, delivery: Delivery[Event], error: Exception, wait: float) -> None:
            if wait > patience:
                text = _slow_retry(plugin, delivery, error, wait)
                failures.append((SlowRetryError(text), error))
                scope.cancel()

        runtime.on_retry(told)
        yield
    for slow, error in failures:
        raise slow from error


def _slow_retry(plugin: str, delivery: Delivery[Event], error: Exception, wait: float) -> str:
    event = delivery.event.__event_name__
    return (
        f"{plugin!r} failed to handle {event!r}: {type(error).__name__}: {error}; by the real "
        f"clock the next attempt may come in {wait:g} s only: take the `autojump_clock` fixture as "
        "an argument of the test, or give open_plugins more `patience`"
    )


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
