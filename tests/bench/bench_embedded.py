"""The cost of a publish from a service on asyncio, beside the other ways to do it.

    python tests/bench/bench_embedded.py [--quick]

Trivet runs an embedded program in a thread of its own. The other way is Trio's guest mode, in which
both loops share the service's thread, and each call still has to make a task on Trio. It is written
out here. The third column of a row is the same publish where service and program are on Trio. A
service that has one event at a time pays for the change of threads; with many at a time, or with
`publish_many`, little of that is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

import structlog
import trio
from pairs import QUICK, Table, in_trio, pairs

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Settings,
    StallSettings,
    aio,
    open_runtime,
)

EVENTS = 4_000 if QUICK else 20_000
"""Events in one round."""
MANY = 64
"""Publishers side by side, and events of one `publish_many`."""
SETTINGS = Settings(stalls=StallSettings(enabled=False))

Publish = Callable[[Event], Awaitable[object]]


class Ping(Event):
    """The event that is published."""


class Listener(EventPlugin[Ping]):
    """A handler that does nothing."""

    delivery = DeliverySettings(buffer=EVENTS)

    async def handle_event(self, event: Ping) -> None:
        """Do nothing."""


async def published(publish: Publish, publishers: int) -> float:
    """Events a second, from some publishers on asyncio side by side."""

    async def each() -> None:
        for _ in range(EVENTS // publishers):
            await publish(Ping())

    began = perf_counter()
    await asyncio.gather(*(each() for _ in range(publishers)))
    return EVENTS / (perf_counter() - began)


async def in_a_thread(publishers: int) -> float:
    """The program in a thread of its own: `trivet.aio`."""
    async with aio.open_runtime(SETTINGS, plugins=[Listener]) as runtime:
        return await published(runtime.publish, publishers)


async def in_a_thread_by_many() -> float:
    """The same, `MANY` events a call."""
    async with aio.open_runtime(SETTINGS, plugins=[Listener]) as runtime:
        began = perf_counter()
        for _ in range(EVENTS // MANY):
            await runtime.publish_many([Delivery.of(Ping()) for _ in range(MANY)])
        return EVENTS / (perf_counter() - began)


async def as_a_guest(publishers: int) -> float:
    """The program as a guest of asyncio's loop."""
    loop = asyncio.get_running_loop()
    ready, over = loop.create_future(), loop.create_future()

    async def program() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery, open_runtime(SETTINGS, plugins=[Listener]) as it:
            token = trio.lowlevel.current_trio_token()

            async def publish(event: Event) -> object:
                told: asyncio.Future[object] = loop.create_future()

                async def call() -> None:
                    told.set_result(await it.publish(event))

                token.run_sync_soon(nursery.start_soon, call)
                return await told

            ready.set_result((publish, partial(token.run_sync_soon, stop.set)))
            await stop.wait()

    trio.lowlevel.start_guest_run(
        program,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=over.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    publish, stop = await ready
    rate = await published(publish, publishers)
    stop()
    (await over).unwrap()
    return rate


async def on_trio() -> float:
    """The service and the program on Trio."""
    async with open_runtime(SETTINGS, plugins=[Listener]) as runtime:
        began = perf_counter()
        for _ in range(EVENTS):
            await runtime.publish(Ping())
        return EVENTS / (perf_counter() - began)


def in_asyncio(measure: Callable[..., Awaitable[float]], *args: object) -> Callable[[], float]:
    """A measurement that runs each time in a loop of asyncio's own."""

    async def run() -> float:
        return await measure(*args)

    return lambda: asyncio.run(run())


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    table = Table("a program inside a service on asyncio", "/s")
    for publishers in (1, MANY):
        thread, guest = in_asyncio(in_a_thread, publishers), in_asyncio(as_a_guest, publishers)
        figure, ratio = pairs(thread, guest)
        what = f"publishing from asyncio, {publishers} at a time"
        table.row(what, figure.median, "in guest mode", ratio)
        table.row(f"{what}: µs each", 1e6 / figure.median, "", None)
    figure, ratio = pairs(in_asyncio(in_a_thread_by_many), in_trio(on_trio))
    table.row(f"`publish_many` of {MANY} from asyncio", figure.median, "`publish` on Trio", ratio)


if __name__ == "__main__":
    main()
