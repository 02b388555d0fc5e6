"""Trivet and other libraries, each publishing the same events to async handlers.

Owns the set-up of each library, the publishing, and the wait for the end.
Never knows the measurement: the work makes the events and the handlers.

A library that takes an event without waiting gets `turn` events in a turn of the loop, so that its
handlers have turns too.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import trio
from blinker import Signal
from faststream.nats import NatsBroker, TestNatsBroker
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.events import EventListener, SimpleEventEmitter
from pyee.asyncio import AsyncIOEventEmitter

from trivet import DeliverySettings, Event, EventPlugin, Plugin, Settings, open_runtime


class Ping(Event):
    """The event that is published."""

    number: int


Handler = Callable[[Any], Coroutine[Any, Any, None]]
"""Is given the event, or bytes or text in its place where that is what is carried."""
NEXT_TURN = partial(asyncio.sleep, 0)


@attrs.define
class Work(ABC):
    """The events to publish, and their handlers."""

    handlers: Sequence[Handler]
    """One for each subscriber."""
    turn: int
    """How many events are published in one turn of the loop by whom nothing makes wait."""

    @abstractmethod
    def events(self) -> Iterator[Ping]:
        """The events, each made on demand; the clock runs from the first."""

    @abstractmethod
    async def end(self, next_turn: Callable[[], Awaitable[None]]) -> None:
        """Wait, turn by turn, for the end of the work."""


Peer = Callable[[Work], Coroutine[Any, Any, None]]


class Sink(EventPlugin[Ping]):
    """A subscriber; each is a class of its own, with a handler of the work's."""


async def trivet(work: Work, settings: Settings, delivery: DeliverySettings) -> None:
    """Plugins."""
    plugins: list[type[Plugin]] = [
        type(f"Sink{number}", (Sink,), {"handle_event": staticmethod(handle), "delivery": delivery})
        for number, handle in enumerate(work.handlers)
    ]
    waits = delivery.overflow in (None, "block")
    async with open_runtime(settings, plugins=plugins) as runtime:
        for event in work.events():
            await runtime.publish(event)
            if not waits and event.number % work.turn == 0:
                await trio.lowlevel.checkpoint()
        await work.end(trio.lowlevel.checkpoint)


async def asyncio_queue(work: Work, size: int) -> None:
    """A queue and a reader for each subscriber; a size of 0 means no limit."""

    async def read(queue: asyncio.Queue[Ping], handle: Handler) -> None:
        while True:
            await handle(await queue.get())

    queues = [asyncio.Queue[Ping](size) for _ in work.handlers]
    readers = [asyncio.create_task(read(*each)) for each in zip(queues, work.handlers, strict=True)]
    for event in work.events():
        for queue in queues:
            await queue.put(event)
        if size == 0 and event.number % work.turn == 0:
            await NEXT_TURN()
    await work.end(NEXT_TURN)
    for reader in readers:
        reader.cancel()


async def litestar_channels(work: Work, backlog: int | None) -> None:
    """Litestar's channels. They carry bytes, here the event's number."""
    plugin = ChannelsPlugin(
        MemoryChannelsBackend(), channels=["pings"], subscriber_max_backlog=backlog
    )

    async def read(handle: Handler) -> None:
        async with plugin.start_subscription("pings") as subscriber:
            async for data in subscriber.iter_events():
                await handle(data)

    async with plugin:
        readers = [asyncio.create_task(read(handle)) for handle in work.handlers]
        await NEXT_TURN()  # They subscribe.
        for event in work.events():
            data = b"%d" % event.number
            plugin.publish(data, "pings")  # pyright: ignore[reportUnknownMemberType]
            if event.number % work.turn == 0:
                await NEXT_TURN()
        await work.end(NEXT_TURN)
        for reader in readers:
            reader.cancel()


async def litestar_emitter(work: Work) -> None:
    """Litestar's emitter of events, which starts a task for each event and listener."""
    listeners = [EventListener("ping")(handle) for handle in work.handlers]
    async with SimpleEventEmitter(listeners) as emitter:
        for event in work.events():
            emitter.emit("ping", event)
            if event.number % work.turn == 0:
                await NEXT_TURN()
        await work.end(NEXT_TURN)


async def pyee(work: Work) -> None:
    """Pyee, which starts a task for each event and listener."""
    emitter = AsyncIOEventEmitter()
    for handle in work.handlers:
        emitter.add_listener("ping", handle)
    for event in work.events():
        emitter.emit("ping", event)
        if event.number % work.turn == 0:
            await NEXT_TURN()
    await work.end(NEXT_TURN)


async def faststream(work: Work) -> None:
    """FastStream's broker for tests, without a server. It carries text, here the number."""
    broker = NatsBroker()
    for handle in work.handlers:
        broker.subscriber("pings")(handle)
    async with TestNatsBroker(broker) as connected:
        for event in work.events():
            await connected.publish(str(event.number), "pings")
        await work.end(NEXT_TURN)


async def blinker(work: Work) -> None:
    """Blinker's signal; the event is its sender, so that a handler has one argument."""
    signal = Signal()
    for handle in work.handlers:
        signal.connect(handle, weak=False)
    for event in work.events():
        await signal.send_async(event)
    await work.end(NEXT_TURN)
