"""A small program around the plugins under test.

Owns its opening, its HTTP side, and the record of what it publishes.
Never knows Trivet's private modules: any embedder can do the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs
import trio
from quart.typing import TestClientProtocol
from trio.testing import MockClock

from trivet import (
    Delivery,
    Event,
    Outcome,
    Plugin,
    Runtime,
    Settings,
    StallSettings,
    StoreSettings,
    TrivetError,
    listening,
    open_runtime,
)

E = TypeVar("E", bound=Event)


@asynccontextmanager
async def open_plugins(
    *plugins: type[Plugin] | str,
    directory: Path | str = "plugins",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    event_types: Iterable[type[Event]] = (),
    patience: float = 1.0,
    raise_errors: bool = False,
    **program: Any,
) -> AsyncGenerator[Runtime]:
    """Run plugins as a program would, without a file of settings.

    >>> from trivet import BackgroundPlugin
    >>> class Teapot(BackgroundPlugin):
    ...     kind: str = "green"
    >>> async def test_kind() -> None:
    ...     async with open_plugins(Teapot, settings={"teapot": {"kind": "black"}}) as runtime:
    ...         assert runtime.get(Teapot).kind == "black"

    Args:
        plugins: classes, or names of files in `directory`.
        directory: the drop-in directory of these files.
        settings: for each plugin's name, its table `[plugins.NAME]`.
        event_types: types to register besides the types that the plugins bring.
        patience: seconds of real time that an event may wait for its next attempt; under
            `autojump_clock` there is no limit.
        raise_errors: whether the test's own `publish(…, wait=True)` raises what a handler raised at
            its last attempt; several such errors are raised as a group. The fixture `open_service`
            does so by default. What plugins and requests publish is not concerned.
        program: further fields of `Settings`, such as `service`. Other defaults than a program's:
            `stalls` are not watched, since a debugger holds the event loop, and the `store` of
            durable inboxes is in memory.

    Yields:
        The running program. Leaving the block stops it.

    Raises:
        ConfigurationError: a program would refuse these plugins or settings.
        StartError: a plugin did not start.
        SlowRetryError: a handler failed, and the next attempt would come after `patience`.
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
        if raise_errors:
            runtime.on_outcome(_raise_errors)
        with _impatient(runtime, patience):
            yield runtime


class OpenPlugins(Protocol):
    """The type of `open_plugins`, and of the fixture `open_service`."""

    def __call__(
        self,
        *plugins: type[Plugin] | str,
        directory: Path | str = ...,
        settings: Mapping[str, Mapping[str, Any]] | None = ...,
        event_types: Iterable[type[Event]] = ...,
        patience: float = ...,
        raise_errors: bool = ...,
        **program: Any,
    ) -> AbstractAsyncContextManager[Runtime]:
        """See `open_plugins`."""
        ...


def _raise_errors(outcome: Outcome) -> None:
    """Raise what the handlers raised, with a note that tells whose it is."""
    errors = outcome.errors
    for plugin, error in errors.items():
        error.add_note(f"plugin {plugin!r} raised this while it handled {outcome.event!r}")
    if len(errors) == 1:
        (error,) = errors.values()
        raise error
    if errors:
        raise ExceptionGroup(f"{len(errors)} plugins failed", list(errors.values()))


@attrs.frozen
class Published:
    """The events that were published in a block of `recorded`, in order."""

    deliveries: list[Delivery[Event]] = attrs.field(factory=list[Delivery[Event]])
    """The events in their envelopes."""

    @property
    def events(self) -> list[Event]:
        """The events themselves."""
        return [delivery.event for delivery in self.deliveries]

    def of(self, event: type[E]) -> list[E]:
        """The events of one type, and of types that derive from it."""
        return [each for each in self.events if isinstance(each, event)]


@contextmanager
def recorded(runtime: Runtime) -> Generator[Published]:
    """Record every event that is published in this block, whoever publishes it.

    Yields:
        The record. An event is in it before the plugins have it.
    """
    published = Published()
    with runtime.tapped(published.deliveries.append):
        yield published


class SlowRetryError(TrivetError):
    """A test would wait in real time for the next attempt at an event."""


@contextmanager
def _impatient(runtime: Runtime, patience: float) -> Generator[None]:
    """Cancel the block when an attempt would come late, and raise an error about the handler."""
    if isinstance(trio.lowlevel.current_clock(), MockClock):
        yield
        return
    failures: list[tuple[SlowRetryError, Exception]] = []
    with trio.CancelScope() as scope:

        def on_retry(plugin: str, delivery: Delivery[Event], error: Exception, wait: float) -> None:
            if wait > patience:
                text = _slow_retry(plugin, delivery, error, wait)
                failures.append((SlowRetryError(text), error))
                scope.cancel()

        runtime.on_retry(on_retry)
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
    """Quart's test client of the runtime's HTTP application; it needs no socket."""
    from .._web._app import build_app  # noqa: PLC0415 - as `create_app` does

    return build_app(runtime, "127.0.0.1:0").test_client()


@asynccontextmanager
async def serving(runtime: Runtime) -> AsyncGenerator[str]:
    """Serve the runtime over HTTP on a free port of 127.0.0.1.

    Yields:
        The URL. Leaving the block begins the runtime's stop.
    """
    async with listening(runtime, "127.0.0.1:0") as urls:
        yield urls[0]
