"""A program inside a service that runs on asyncio: FastAPI, Starlette, Django or aiohttp.

Owns what such a service may call. All of it is called on the loop that has opened the program.
Never knows which framework the service uses.

The program has a thread of its own, so that a plugin that holds its loop does not hold the
service's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

from ._embedded._crossing import on_asyncio
from ._embedded._thread import ProgramThread
from ._events._delivery import Delivery, Envelope
from ._events._event import Event
from ._events._outcome import Outcome
from ._faults._errors import ProgramEndedError
from ._plugins._plugin import Plugin
from ._program._settings import Settings
from ._runtime import Runtime
from ._runtime import open_runtime as open_on_trio
from ._web import warn_of_open_doors
from ._web._asgi import ASGIApp, Receive, Scope, Send

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Mounted = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application, for any framework: each has types of its own for scopes and messages."""

GRACE = 5.0
"""Seconds beyond the limits of `[shutdown]` after which the program's end is not waited for."""


class EmbeddedRuntime:
    """A running program, as a service on asyncio sees it. Made by `open_runtime`."""

    def __init__(self, thread: ProgramThread) -> None:
        self._thread = thread
        self._built: ASGIApp | None = None

    @property
    def runtime(self) -> Runtime:
        """The program itself, which only functions that `call` calls may use."""
        return self._thread.runtime

    async def publish(
        self, event: Event, *, wait: bool = False, **facts: Unpack[Envelope]
    ) -> Outcome:
        """Hand the event to every subscriber; see `trivet.App.publish`.

        A full inbox makes the caller wait, as on Trio. A caller that is cancelled waits no longer;
        whether the event was accepted is then unknown.

        Raises:
            UnknownEventError: the event is not of one of the program's types.
            ProgramEndedError: the program has ended.
        """
        return await self._thread.call(partial(self.runtime.publish, event, wait=wait, **facts))

    async def publish_many(
        self, deliveries: Iterable[Delivery[Event]], *, wait: bool = False
    ) -> list[Outcome]:
        """Hand several events to every subscriber; see `trivet.App.publish_many`.

        One call for many events costs little more than a call for one.

        Raises:
            UnknownEventError: an event is not of one of the program's types.
            ProgramEndedError: the program has ended.
        """
        given = tuple(deliveries)
        return await self._thread.call(partial(self.runtime.publish_many, given, wait=wait))

    async def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on Trio, in the program's thread, such as a plugin's method.

        It has the caller's context variables. If the caller is cancelled, so is the call, and its
        end is waited for: a second at most, since a plugin may hold the program's loop.

        Raises:
            ProgramEndedError: the program has ended.
        """
        return await self._thread.call(partial(function, *args))

    @cached_property
    def app(self) -> Mounted:
        """The program's HTTP side, an ASGI application for the service to mount.

        It has the plugins' routes, `/events/…`, the probes and the rest, as `trivet.create_app`
        has; the program's settings decide who may ask for what. A warning says so if there are no
        tokens.
        """
        warn_of_open_doors(self.runtime)
        return self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scope of the service's server."""
        if self._built is None:
            from ._web._app import build_app  # noqa: PLC0415 - Quart, where the service mounts it

            self._built = build_app(self.runtime).asgi_app
        to = partial(on_asyncio, self._thread.loop)
        answer = partial(self._built, scope, partial(to, receive), partial(to, send))
        await self._thread.call(answer)


@asynccontextmanager
async def open_runtime(
    settings: Settings | None = None,
    *,
    plugins: Iterable[type[Plugin]] = (),
    event_types: Iterable[type[Event]] = (),
) -> AsyncGenerator[EmbeddedRuntime]:
    """Run a program in a thread of its own within this block, for a service on asyncio.

    Leaving the block, also by a cancellation or an exception, stops the program, within the limits
    of `[shutdown]`. A cancellation that comes meanwhile cuts the stop short. Nothing can end a
    thread by force: if a plugin cannot be stopped, the block is left `GRACE` seconds after the
    limits, with a line of log that says where the plugin stands. The process does not wait for such
    a thread when it exits.

    Args:
        settings: see `trivet.open_runtime`.
        plugins: see there.
        event_types: see there.

    Yields:
        The running program.

    Raises:
        ConfigurationError: the settings or the classes have faults; nothing has started.
        StartError: a plugin did not start; the plugins that had started were stopped.
        CriticalPluginError: a critical plugin was given up; the block was cancelled.
    """
    settings = settings or Settings()
    opened = partial(open_on_trio, settings, plugins=tuple(plugins), event_types=tuple(event_types))
    thread = ProgramThread(opened, settings.shutdown.budget + GRACE)
    host = asyncio.current_task()
    assert host is not None  # Only a task can enter an asynchronous block.
    before, refused = host.cancelling(), None
    try:
        await thread.begin(host)
        yield EmbeddedRuntime(thread)
    except asyncio.CancelledError:  # noqa: ASYNC103 - the program's own, if it has failed
        if thread.failure is None or host.uncancel() > before:
            raise
    except ProgramEndedError as error:  # By a call that was under way.
        refused = error
    finally:
        await thread.end()
    if thread.failure is not None:
        raise thread.failure from refused
    if refused is not None:
        raise refused
