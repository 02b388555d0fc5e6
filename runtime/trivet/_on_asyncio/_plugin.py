"""A plugin whose coroutines run on asyncio.

Owns the class that authors derive from, and the choice of the methods that cross to asyncio.
Never knows how they cross: that is `_bridge`, imported when such a plugin starts. It imports
trio-asyncio, which slows down all asyncio code of the process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial, wraps
from types import FunctionType
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

import trio

from .._events._delivery import Delivery, Envelope
from .._events._event import Event
from .._events._outcome import Outcome
from .._events._types import EventTypes
from .._plugins._hooks import AWAITED
from .._plugins._instance import TrioBackend, internals_of, register_backend
from .._plugins._internals import Bridge
from .._plugins._plugin import App, Plugin

T = TypeVar("T")
P = TypeVar("P", bound=Plugin)
Ts = TypeVarTuple("Ts")


class AsyncioPlugin(Plugin):
    """A plugin on asyncio, for libraries such as aiohttp, aio-pika and nats-py.

    Derive from this and from a kind of plugin: `class Sender(AsyncioPlugin, EventPlugin[Order])`.
    The methods `initialize`, `run`, `handle_event`, `handle_batch`, `flush_points`, `send_events`
    and `close` run on asyncio if such a class defines them itself. Everything else stays on Trio:
    methods inherited from other classes, and routes and websockets, because Quart is there. Code
    of one side calls the other by `run_on_asyncio` and `run_on_trio`.

    Life: each lifetime has an asyncio loop of its own, opened before `initialize`. A cancellation
    by a time limit, a deadline, a restart or the stop is raised once, as asyncio's
    `CancelledError`. A task that fails is a crash of the plugin, unless it is awaited within a
    second. Tasks that remain when `close` has returned are cancelled and awaited.

    The extra `asyncio` brings the libraries that this class needs.

    >>> import asyncio
    >>> from trivet import AsyncioPlugin, BackgroundPlugin
    >>> class Kettle(AsyncioPlugin, BackgroundPlugin):
    ...     async def run(self) -> None:
    ...         self.boiling = asyncio.create_task(asyncio.sleep(60))
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in AWAITED:
            method = cls.__dict__.get(name)
            if isinstance(method, FunctionType):
                setattr(cls, name, _crossing(method))

    async def run_on_asyncio(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on the plugin's asyncio loop, wherever this is called.

        Routes, which run on Trio, use this to call asyncio's libraries.

        Raises:
            RuntimeError: the plugin is not alive, or the function was cancelled on asyncio's side.
        """
        return await _bridge_of(self).call(function, *args)

    async def run_on_trio(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on Trio, wherever this is called: `self.stopping.wait`, say.

        `self.app.publish` and `self.app.publish_many` cross by themselves.

        Raises:
            RuntimeError: the plugin is not alive.
        """
        return await _bridge_of(self).call_back(function, *args)

    @overload
    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T: ...

    @overload
    async def enter(self, manager: AbstractContextManager[T]) -> T: ...

    async def enter(self, manager: AbstractAsyncContextManager[T] | AbstractContextManager[T]) -> T:
        """Enter a context manager for this lifetime, as `Plugin.enter` does.

        Called on asyncio, it enters and leaves the manager there, in one task. So an
        `asyncio.TaskGroup` can be held, too: the plugin fails when the group does.

        Raises:
            RuntimeError: called outside of `initialize`, or with one of Trio's own on asyncio.
        """
        bridge = self._trivet.bridge
        if isinstance(manager, AbstractAsyncContextManager):
            return await super().enter(manager if bridge is None else bridge.held(manager))
        return await super().enter(manager)


@asynccontextmanager
async def _loop_of(plugin: AsyncioPlugin) -> AsyncGenerator[None]:
    from ._bridge import open_bridge  # noqa: PLC0415 - see above

    internals = internals_of(plugin)
    try:
        async with open_bridge(plugin.log, internals.fail) as bridge:
            internals.bridge = bridge
            yield
    finally:
        internals.bridge = None


class _AsyncioBackend(TrioBackend):
    """The backend for asyncio: a loop before `initialize`, and an `app` that crosses to Trio."""

    def app_for(self, plugin: Any, app: App) -> App:
        return _AppFromAsyncio(app, plugin)

    async def initialize(self, plugin: Any) -> None:
        await plugin.enter(_loop_of(plugin))
        await super().initialize(plugin)


register_backend(AsyncioPlugin, _AsyncioBackend())


def _bridge_of(plugin: AsyncioPlugin) -> Bridge:
    bridge = internals_of(plugin).bridge
    if bridge is None:
        raise RuntimeError(f"plugin {plugin.name!r} is not alive, nor is its asyncio loop")
    return bridge


def _crossing(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(method)
    async def crossing(self: AsyncioPlugin, *args: Any) -> Any:
        return await self.run_on_asyncio(method, self, *args)

    return crossing


class _AppFromAsyncio(App):
    """The program as code on asyncio sees it: publishing crosses to Trio."""

    def __init__(self, app: App, plugin: AsyncioPlugin) -> None:
        self._app = app
        self._plugin = plugin

    @property
    def service(self) -> str:
        return self._app.service

    @property
    def stopping(self) -> trio.Event:
        return self._app.stopping

    @property
    def events(self) -> EventTypes:
        return self._app.events

    @property
    def durable(self) -> frozenset[str]:
        return self._app.durable

    def listens(self, event: type[Event]) -> bool:
        return self._app.listens(event)

    def room(self, event: type[Event]) -> float:
        return self._app.room(event)

    def room_bytes(self, event: type[Event]) -> float:
        return self._app.room_bytes(event)

    def buffer_bytes(self, event: type[Event]) -> int:
        return self._app.buffer_bytes(event)

    async def publish(
        self, event: Event, *, wait: bool = False, **envelope: Unpack[Envelope]
    ) -> Outcome:
        publish = partial(self._app.publish, wait=wait, **envelope)
        return await self._plugin.run_on_trio(publish, event)

    async def publish_many(
        self, deliveries: Iterable[Delivery[Event]], *, wait: bool = False
    ) -> list[Outcome]:
        publish_many = partial(self._app.publish_many, wait=wait)
        return await self._plugin.run_on_trio(publish_many, deliveries)

    def get(self, plugin: type[P], name: str | None = None) -> P:
        return self._app.get(plugin, name)
